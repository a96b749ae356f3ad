// The last checkpoints that stay, and a run that goes on from any of them; validations within an epoch.
#include <filesystem>

#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/train/run_folder.h"
#include "tests/files.h"
#include "tests/nn/train/toy.h"

namespace tandem::nn {
using namespace testing;
namespace {

namespace fs = std::filesystem;

struct Stop {};

// A run of three epochs of four steps.
struct Run {
  explicit Run(TrainerOptions options, double lr = 1e-2)
      : optimizer(model.parameters(), AdamWOptions{.lr = lr}),
        trainer(model, optimizer, of(std::move(options))) {}
  static TrainerOptions of(TrainerOptions options) {
    options.passes = 2, options.epochs = options.epochs == 10 ? 3 : options.epochs, options.batch_size = 12;
    options.accumulate = 2, options.seed = 5, options.progress = false;
    return options;
  }
  FitResult fit() { return trainer.fit(train, valid); }
  FitResult resume(std::optional<int64_t> step = {}) { return trainer.resume(train, valid, step); }
  void stop_after(int64_t steps) {
    trainer.on_step = [=, this](const Metrics& now) {
      if (now.step != steps) return;
      trainer.save();
      throw Stop();
    };
  }

  Blobs train{44}, valid{16};
  Mlp model;
  AdamW optimizer;
  Trainer trainer;
};

// The first fields of the rows of metrics.csv, here without rates and times; none without the file.
std::vector<std::string> rows_of(const std::string& dir, size_t count = 9) {
  std::vector<std::string> rows;
  if (!fs::exists(dir + "/metrics.csv")) return rows;
  std::istringstream lines(bytes_of(dir + "/metrics.csv"));
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
    fields.resize(count);
    rows.push_back(fmt::format("{}", fmt::join(fields, ",")));
  }
  return rows;
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> all;
  for (const auto& entry : fs::directory_iterator(dir)) all.push_back(entry.path().filename().string());
  std::sort(all.begin(), all.end());
  return all;
}

// Tensors and metadata of a checkpoint but the times.
void check_same_checkpoint(const std::string& a, const std::string& b) {
  const SafeTensors x = load_safetensors(a, Alignment::any), y = load_safetensors(b, Alignment::any);
  REQUIRE(x.tensors.size() == y.tensors.size());
  for (size_t i = 0; i < x.tensors.size(); ++i) {
    CHECK(x.tensors[i].name == y.tensors[i].name);
    CHECK(same_bits(x.tensors[i].tensor, y.tensors[i].tensor));
  }
  CHECK(x.metadata.at("steps_done") == y.metadata.at("steps_done"));
}

void check_same_folder(const std::string& a, const std::string& b) {
  CHECK(names_in(a) == names_in(b));
  CHECK(rows_of(a) == rows_of(b));
  for (const std::string& name : names_in(a))
    if (name.ends_with(".safetensors")) {
      CAPTURE(name);
      if (name == kBestFile) {
        CHECK(bytes_of(a + "/" + name) == bytes_of(b + "/" + name));
      } else {
        check_same_checkpoint(a + "/" + name, b + "/" + name);
      }
    }
}

TEST_CASE("keep: the last N checkpoints, by their steps; one is last.safetensors alone") {
  const Scratch folder;
  const std::vector<std::string> one{kBestFile, kLastFile, kManifestFile, kMetricsFile};
  Run({.run_dir = folder.path(), .save_steps = 3}).fit();
  CHECK(names_in(folder.path()) == one);
  std::vector<std::string> three = one;
  three.push_back("step-000008.safetensors"), three.push_back("step-000009.safetensors");
  Run({.run_dir = folder.path(), .save_steps = 3, .keep = 3}).fit();  // 3, 4, 6, 8, 9, 12
  CHECK(names_in(folder.path()) == three);
  const Manifest manifest(folder.path());
  CHECK(manifest.checkpoints() == std::vector<int64_t>{8, 9});
  for (const auto& [name, hash] : manifest.hashes()) manifest.checked(name);
  CHECK(load_safetensors(folder.file("step-000009.safetensors")).metadata.at("steps_done") == "9");
  // Fewer are asked for, or another run begins there.
  Run({.epochs = 4, .run_dir = folder.path(), .keep = 2}).resume();
  CHECK(Manifest(folder.path()).checkpoints() == std::vector<int64_t>{12});
  Run({.run_dir = folder.path()}).fit();
  CHECK(names_in(folder.path()) == one);
  check_throws<ConfigError>("keep: expected at least 1, got 0", [] { Run({.keep = 0}); });
}

TEST_CASE("keep: a run goes on from any of them bit for bit, as if it had been stopped there") {
  const Scratch whole_folder;
  const TrainerOptions options{.average = 2, .save_steps = 1, .keep = 20};
  const auto in = [&](const std::string& dir) {
    TrainerOptions o = options;
    o.run_dir = dir;
    return o;
  };
  Run whole(in(whole_folder.path()));
  whole.fit();
  REQUIRE(Manifest(whole_folder.path()).checkpoints().size() == 11);
  for (int64_t step = 1; step <= 12; ++step) {
    CAPTURE(step);
    const Scratch folder, stopped_folder;
    fs::copy(whole_folder.path(), folder.path(), fs::copy_options::recursive);
    {  // nothing but the going back: the folder of a run that was stopped there
      Run run(in(folder.path()));
      run.trainer.on_step = [&](const Metrics&) { throw Stop(); };
      if (step < 12) CHECK_THROWS_AS(run.resume(step), Stop);
      Run stopped(in(stopped_folder.path()));
      stopped.stop_after(step);
      if (step < 12) {
        CHECK_THROWS_AS(stopped.fit(), Stop);
        if (step % 4 != 0) check_same_folder(folder.path(), stopped_folder.path());
      }
    }
    Run run(in(folder.path()));
    run.resume();
    check_same_folder(folder.path(), whole_folder.path());
    CHECK(flat_parameters(run.model) == flat_parameters(whole.model));
  }
}

TEST_CASE("average: a run that was ended with a mean, and goes on, has the folder of one that was not") {
  const Scratch whole_folder, longer_folder;
  const auto of = [](int64_t epochs, const std::string& dir) {
    return TrainerOptions{.epochs = epochs, .average = 3, .run_dir = dir};
  };
  Run(of(4, whole_folder.path())).fit();
  for (const int64_t ended : {1, 2, 3}) {
    const Scratch folder;
    const FitResult before = Run(of(ended, folder.path())).fit();
    const FitResult after = Run(of(4, folder.path())).resume();
    CAPTURE(before.averaged.has_value());
    check_same_folder(folder.path(), whole_folder.path());
  }
}

TEST_CASE("keep: a step of which there is no checkpoint is an error that names those that there are") {
  const Scratch folder;
  Run({.run_dir = folder.path(), .save_steps = 1, .keep = 3}).fit();
  const auto before = names_in(folder.path());
  check_throws<ConfigError>("has no checkpoint of step 5, expected one of 10, 11, 12",
                            [&] { Run({.run_dir = folder.path()}).resume(5); });
  put(folder.file("step-000010.safetensors"), "damage");
  check_throws<IoError>("step-000010.safetensors: it is damaged",
                        [&] { Run({.run_dir = folder.path()}).resume(10); });
  CHECK(names_in(folder.path()) == before);
  Run({.run_dir = folder.path(), .keep = 3}).resume();  // which does not use it
}

TEST_CASE("keep: names of checkpoints") {
  CHECK(checkpoint_file(500) == "step-000500.safetensors");
  CHECK(checkpoint_file(12345678) == "step-12345678.safetensors");
  CHECK(step_of_checkpoint("step-000500.safetensors") == 500);
  CHECK(step_of_checkpoint("step-12345678.safetensors") == 12345678);
  for (const char* name :
       {"step-500.safetensors", "step-0000500.safetensors", "step-00050x.safetensors", "step-.safetensors",
        "step-000500.safetensors.next", "last.safetensors", "../step-000500.safetensors"})
    CHECK_MESSAGE(!step_of_checkpoint(name), name);
}

TEST_CASE("keep: a commit that is cut short before it happened leaves the checkpoints that it drops") {
  const Scratch folder;
  Run({.run_dir = folder.path(), .save_steps = 1, .keep = 3}).fit();
  const std::string file = folder.file("step-000010.safetensors"), before = bytes_of(file);
  {
    Commit commit(folder.path());
    commit.drop("step-000010.safetensors");
    put(commit.add(kMetricsFile), "new");
  }
  CHECK(bytes_of(file) == before);
  fs::rename(file, file + ".next");  // as finish() does before the commit
  CHECK(Manifest(folder.path()).checked("step-000010.safetensors") == file + ".next");
  { const RunLock lock(folder.path()); }
  CHECK(bytes_of(file) == before);
  fs::copy(file, folder.file("step-000003.safetensors.next"));  // of a commit that did not happen
  { const RunLock lock(folder.path()); }
  CHECK_FALSE(fs::exists(folder.file("step-000003.safetensors.next")));
}

TEST_CASE("eval_steps: rows by step, the best of all evaluations, and patience and averages by them") {
  const Scratch folder;
  std::vector<int64_t> at;
  Run run({.eval_steps = 3, .run_dir = folder.path()});
  run.trainer.on_validation = [&](const Metrics& validated) { at.push_back(validated.step); };
  const FitResult result = run.fit();
  CHECK(at == std::vector<int64_t>{3, 4, 6, 8, 9, 12});  // at 12 once
  REQUIRE(result.valid.size() == 6);
  REQUIRE(result.train.size() == 3);
  CHECK(rows_of(folder.path(), 3) ==
        std::vector<std::string>{"epoch,step,split", "1,3,valid", "1,4,train", "1,4,valid", "2,6,valid",
                                 "2,8,train", "2,8,valid", "3,9,valid", "3,12,train", "3,12,valid"});
  int64_t best = 0;
  for (int64_t i = 1; i < 6; ++i) {
    const Metrics &a = result.valid[i], &b = result.valid[best];
    if (a.accuracy != b.accuracy ? a.accuracy > b.accuracy : a.loss < b.loss) best = i;
  }
  CHECK(result.best_evaluation == best);
  CHECK(result.best_epoch == result.valid[best].epoch);
  Classification<Mlp> objective(run.model);
  CHECK(evaluate(objective, run.valid).ce == result.valid[best].ce);
  // The training itself is the same.
  Run plain({});
  const FitResult same = plain.fit();
  for (size_t i = 0; i < 3; ++i) CHECK(same.train[i].loss == result.train[i].loss);
}

TEST_CASE("eval_steps: a run that is stopped anywhere goes on bit for bit, its evaluations included") {
  const TrainerOptions options{.ema = 0.5, .eval_steps = 3, .average = 3, .keep = 2};
  const auto in = [&](const std::string& dir) {
    TrainerOptions o = options;
    o.run_dir = dir;
    return o;
  };
  const Scratch whole_folder;
  Run whole(in(whole_folder.path()));
  const FitResult expected = whole.fit();
  for (int64_t step = 1; step <= 12; ++step) {
    CAPTURE(step);
    const Scratch folder;
    Run first(in(folder.path()));
    first.stop_after(step);  // before the validation that is due there
    CHECK_THROWS_AS(first.fit(), Stop);
    Run run(in(folder.path()));
    const FitResult result = run.resume();
    CHECK(flat_parameters(run.model) == flat_parameters(whole.model));
    CHECK(rows_of(folder.path()) == rows_of(whole_folder.path()));
    CHECK(result.best_evaluation == expected.best_evaluation);
    check_same_checkpoint(folder.file(kLastFile), whole_folder.file(kLastFile));
  }
}

TEST_CASE("eval_steps: patience ends a run within an epoch, and more of it goes on there") {
  const auto options = [](const std::string& dir, int64_t patience) {
    return TrainerOptions{.eval_steps = 1, .patience = patience, .run_dir = dir};
  };
  const Scratch folder, whole_folder;
  Run first(options(folder.path(), 2), 0);  // nothing is learned: the first evaluation stays the best
  const FitResult stopped = first.fit();
  CHECK(stopped.stopped_early);
  CHECK(stopped.valid.size() == 3);
  REQUIRE(stopped.train.size() == 1);  // of the part of the epoch
  CHECK(stopped.train[0].step == 3);
  Run same(options(folder.path(), 2), 0);
  CHECK(same.resume().valid.size() == 3);
  Run longer(options(folder.path(), 100), 0);
  longer.resume();
  Run whole(options(whole_folder.path(), 100), 0);
  whole.fit();
  CHECK(rows_of(folder.path()) == rows_of(whole_folder.path()));
  Run once({.eval_steps = 2, .patience = 1, .average = 2}, 0);
  CHECK(once.fit().valid.size() == 2);  // steps 2 and 4: the averages of both are tried, too
}

}  // namespace
}  // namespace tandem::nn
