// A run folder is one thing: damage of any part shows before a run goes on, and whoever is killed loses
// nothing.
#include "nn/train/run_folder.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/train/checkpoint.h"
#include "tests/files.h"
#include "tests/nn/train/toy.h"

namespace tandem::nn {
using namespace testing;
namespace {

namespace fs = std::filesystem;

TrainerOptions in_folder(const std::string& dir, TrainerOptions options = {}) {
  options.epochs = options.epochs == 10 ? 2 : options.epochs;
  options.run_dir = dir, options.progress = false;
  return options;
}

struct Run {
  explicit Run(TrainerOptions options, double lr = 1e-2, int64_t samples = 32)
      : train(samples),
        optimizer(model.parameters(), AdamWOptions{.lr = lr}),
        trainer(model, optimizer, options) {}
  FitResult fit() { return trainer.fit(train, valid); }
  FitResult resume() { return trainer.resume(train, valid); }

  Blobs train, valid{16};
  Mlp model;
  AdamW optimizer;
  Trainer trainer;
};

// A run of two epochs.
struct Folder : Scratch {
  Folder() { Run(in_folder(path())).fit(); }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(path())) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  }
  // Going on is an error with both texts, before anything is changed.
  template <class E> void refused(const std::string& part, const std::string& other) const {
    Run run(in_folder(path(), {.epochs = 3}));
    const auto before = flat_parameters(run.model);
    const std::string message = message_of<E>([&] { run.resume(); });
    CHECK_MESSAGE(contains(message, part), message, "; expected: ", part);
    CHECK_MESSAGE(contains(message, other), message, "; expected: ", other);
    CHECK(flat_parameters(run.model) == before);
  }
};

const std::vector<std::string> kWhole{kBestFile, kLastFile, kManifestFile, kMetricsFile};

TEST_CASE("run folder: a flipped bit or a missing end of any file is an error that names it") {
  const Folder folder;
  REQUIRE(folder.names() == kWhole);
  std::mt19937 random(1);
  for (const std::string& name : kWhole) {
    const std::string file = folder.file(name), whole = bytes_of(file);
    for (int i = 0; i < 40; ++i) {
      std::string damaged = whole;
      damaged[random() % whole.size()] ^= static_cast<char>(1 << random() % 8);
      put(file, damaged);
      folder.refused<IoError>(file, "damaged");
      put(file, whole.substr(0, random() % whole.size()));
      folder.refused<IoError>(file, "damaged");
    }
    put(file, whole);
  }
  Run(in_folder(folder.path(), {.epochs = 3})).resume();
}

TEST_CASE("run folder: what is edited so that it can still be read is noticed, too") {
  const Folder folder;
  SUBCASE("two tensors of one shape, swapped") {
    auto [tensors, metadata] = load_safetensors(folder.file(kLastFile));
    const auto bias = [&tensors = tensors](const char* name) -> Tensor& {
      return std::find_if(tensors.begin(), tensors.end(),
                          [&](const NamedTensor& t) { return t.name == name; })
          ->tensor;
    };
    std::swap(bias("model.first.bias"), bias("model.second.bias"));
    save_safetensors(folder.file(kLastFile), tensors, metadata);
  }
  SUBCASE("a number of the metadata") {
    auto [tensors, metadata] = load_safetensors(folder.file(kLastFile));
    metadata["steps_done"] = "17";
    save_safetensors(folder.file(kLastFile), tensors, metadata);
  }
  folder.refused<IoError>(folder.file(kLastFile), "damaged, was changed by hand");
}

// Without a manifest, as older versions left it: what contradicts itself.
TEST_CASE("run folder: a checkpoint that contradicts itself is an error before training") {
  const Folder folder;
  fs::remove(folder.file(kManifestFile));
  auto [tensors, metadata] = load_safetensors(folder.file(kLastFile));
  std::string expected;
  SUBCASE("epochs_done and the record") {
    metadata["epochs_done"] = "1";
    expected = "1 epochs and 2 steps are done, but its record ends at epoch 2, step 2";
  }
  SUBCASE("steps_done and the record") {
    metadata["steps_done"] = "3";
    expected = "2 epochs and 3 steps are done, but its record ends at epoch 2, step 2";
  }
  SUBCASE("best weights of another shape") {
    for (auto& [name, tensor] : tensors) {
      if (name == "best.out.bias") tensor = zeros({5});
    }
    expected = "\"best.out.bias\": expected f32[4] as in \"model.out.bias\", got f32[5]";
  }
  SUBCASE("no best weights") {
    std::erase_if(tensors, [](const NamedTensor& t) { return t.name == "best.out.bias"; });
    expected = "\"best.out.bias\": expected f32[4] as in \"model.out.bias\", got none";
  }
  SUBCASE("best weights too many") {
    tensors.push_back({"best.more", zeros({1})});
    expected = "\"best.\": expected 6 tensors as in \"model.\", got 7";
  }
  save_safetensors(folder.file(kLastFile), tensors, metadata);
  folder.refused<IoError>(folder.file(kLastFile), expected);
}

TEST_CASE("run folder: last.safetensors alone gives a whole run, and so does a folder without a manifest") {
  const Folder folder;
  const std::string best = bytes_of(folder.file(kBestFile)), metrics = bytes_of(folder.file(kMetricsFile));
  SUBCASE("last.safetensors alone") {
    for (const char* name : {kBestFile, kMetricsFile, kManifestFile}) fs::remove(folder.file(name));
  }
  SUBCASE("last.safetensors and the manifest") {
    for (const char* name : {kBestFile, kMetricsFile}) fs::remove(folder.file(name));
  }
  SUBCASE("no manifest") { fs::remove(folder.file(kManifestFile)); }
  CHECK(Run(in_folder(folder.path())).resume().valid.size() == 2);
  CHECK(folder.names() == kWhole);
  CHECK(bytes_of(folder.file(kBestFile)) == best);
  CHECK(bytes_of(folder.file(kMetricsFile)) == metrics);
  Manifest manifest(folder.path());
  CHECK(manifest.exists());
  for (const char* name : {kBestFile, kLastFile, kMetricsFile}) manifest.checked(name);
}

TEST_CASE("run folder: a training into it leaves nothing of the run before") {
  const Folder folder;
  Run run(in_folder(folder.path(), {.batch_size = 8, .save_steps = 1}));
  run.trainer.on_step = [](const Metrics& now) {
    if (now.step == 3) throw std::runtime_error("ended");
  };
  CHECK_THROWS_AS(run.fit(), std::runtime_error);
  CHECK(folder.names() == std::vector<std::string>{kLastFile, kManifestFile});
}

TEST_CASE("run folder: a metric that is infinite is so after a resume, and one that is NaN is NaN") {
  const Scratch folder;
  const auto options = [&](int64_t epochs) {
    TrainerOptions all = in_folder(folder.path(), {.epochs = epochs});
    all.metric = {"score", [](const Metrics& m) {
                    return m.epoch == 0 ? -INFINITY : m.epoch == 1 ? NAN : INFINITY;
                  }};
    return all;
  };
  Run(options(3)).fit();
  const FitResult all = Run(options(4)).resume();
  REQUIRE(all.valid.size() == 4);
  CHECK(all.valid[0].metric == -INFINITY);
  CHECK(std::isnan(all.valid[1].metric));
  CHECK(all.valid[2].metric == INFINITY);
}

TEST_CASE("run folder: last.safetensors that is listed and gone is an error") {
  const Folder folder;
  fs::remove(folder.file(kLastFile));
  folder.refused<IoError>(folder.file(kLastFile), "it is missing, and listed in manifest.sha256");
}

TEST_CASE("run folder: other options than the run's are refused with both values") {
  const Folder folder;
  struct Case {
    TrainerOptions options;
    const char *what, *was, *is;
  };
  const ValidationMetric metric{.name = "m", .measure = [](const Metrics&) { return 1.0; }};
  for (const auto& [options, what, was, is] :
       std::vector<Case>{{{.passes = 3}, "passes", "2", "3"},
                         {{.alpha = 0.5}, "alpha", "1", "0.5"},
                         {{.alpha_schedule = AlphaSchedule::lr}, "alpha_schedule", "constant", "lr"},
                         {{.alpha_warmup = 4}, "alpha_warmup", "0", "4"},
                         {{.rates = {0.1, 0.2}}, "rates", "", "0.1,0.2"},
                         {{.rate_scale = 2}, "rate_scale", "1", "2"},
                         {{.precision = DType::bf16}, "precision", "f32", "bf16"},
                         {{.rdrop_every = 2}, "rdrop_every", "1", "2"},
                         {{.label_smoothing = 0.1}, "label_smoothing", "0", "0.1"},
                         {{.batch_size = 16}, "batch_size", "64", "16"},
                         {{.schedule = Schedule::cosine(0, 9)}, "schedule", "constant", "cosine"},
                         {{.schedule = Schedule::constant(5)}, "warmup", "0", "5"},
                         {{.clip_norm = 1}, "clip_norm", "0", "1"},
                         {{.seed = 7}, "seed", "0", "7"},
                         {{.eval_steps = 3}, "eval_steps", "0", "3"},
                         {{.average = 2}, "average", "0", "2"},
                         {{.metric = metric}, "metric", "", "m"}}) {
    Run run(in_folder(folder.path(), options));
    const auto before = flat_parameters(run.model);
    check_throws<ConfigError>(
        fmt::format("resume: {}: the run in '{}' has '{}', got '{}'", what, folder.path(), was, is),
        [&] { run.resume(); });
    CHECK(flat_parameters(run.model) == before);
  }
  check_throws<ConfigError>("lr: the run in '" + folder.path() + "' has '0.01', got '0.02'",
                            [&] { Run(in_folder(folder.path()), 0.02).resume(); });
  check_throws<ConfigError>("training data: the run in '" + folder.path() + "' has '32 samples, SHA-256 ",
                            [&] { Run(in_folder(folder.path()), 1e-2, 33).resume(); });
  check_throws<ConfigError>(
      "epochs: the run in '" + folder.path() + "' has done 2, expected at least as many, got 1",
      [&] { Run(in_folder(folder.path(), {.epochs = 1})).resume(); });
  // What changes by rounding only, or is not about what is learned.
  Run(in_folder(folder.path(), {.plan = Plan::replay, .epochs = 3, .accumulate = 2, .patience = 9})).resume();
}

TEST_CASE("run folder: metadata go on as they are, notes may change") {
  const Scratch folder;
  TrainerOptions options = in_folder(folder.path());
  options.metadata = {{"classes", "ant,bee"}}, options.notes = {{"data", "here"}};
  Run(options).fit();
  options.notes = {{"data", "there"}}, options.epochs = 3;
  Run(options).resume();
  CHECK(load_safetensors(folder.file(kLastFile)).metadata.at("data") == "there");
  options.metadata = {{"classes", "dog,eel"}};
  check_throws<ConfigError>("classes: the run in '" + folder.path() + "' has 'ant,bee', got 'dog,eel'",
                            [&] { Run(options).resume(); });
}

TEST_CASE("data sets: a fingerprint tells values, labels, sizes and order apart") {
  const std::string reference = data::fingerprint(Blobs(40));
  CHECK(reference == data::fingerprint(Blobs(40)));
  CHECK(reference.starts_with("40 samples, SHA-256 "));
  CHECK(reference != data::fingerprint(Blobs(41)));
  CHECK(reference != data::fingerprint(Blobs(40, DType::f32, 2)));
  CHECK(reference != data::fingerprint(Blobs(40, DType::f64)));
  struct Relabelled final : data::Dataset {
    Blobs blobs{40};
    int64_t size() const override { return 40; }
    data::Batch batch(std::span<const int64_t> indices, const data::BatchContext& context) const override {
      data::Batch batch = blobs.batch(indices, context);
      if (indices[0] == 39) batch.target = batch.target + 1;
      return batch;
    }
  };
  CHECK(reference != data::fingerprint(Relabelled()));
}

// What a commit leaves when it is cut short anywhere: all calls on files are tried by
// tests/tools/test_kill.py.
TEST_CASE("run folder: before the commit the old state, after it the new one") {
  const Folder folder;
  const std::string best = folder.file(kBestFile), old = bytes_of(best);
  SUBCASE("nothing was committed") {
    put(best + ".next", "half");
    { const RunLock lock(folder.path()); }
    CHECK(bytes_of(best) == old);
  }
  SUBCASE("an exception before the commit") {
    {
      Commit commit(folder.path());
      put(commit.add(kBestFile), "new");
    }
    CHECK(bytes_of(best) == old);
  }
  SUBCASE("committed, and not renamed") {
    {
      Commit commit(folder.path());
      put(commit.add(kBestFile), "new");
      commit.finish();
    }
    fs::rename(best, best + ".next");
    put(best, old);
    CHECK(Manifest(folder.path()).checked(kBestFile) ==
          best + ".next");  // a reader does not wait for a writer
    { const RunLock lock(folder.path()); }
    CHECK(bytes_of(best) == "new");
  }
  Manifest(folder.path()).check_all();
  CHECK(folder.names() == kWhole);
}

TEST_CASE("run folder: what a killed run left goes, what it did not write stays") {
  const Folder folder;
  put(folder.file("last.safetensors.next.tmp-0123456789abcdef"), "half");
  put(folder.file("lock"), "process 1 on another");
  put(folder.file("notes.next"), "a user's");
  Run(in_folder(folder.path(), {.epochs = 3})).resume();
  std::vector<std::string> expected = kWhole;
  expected.push_back("notes.next");
  CHECK(folder.names() == expected);
}

TEST_CASE("run folder: a manifest lists names of a run only") {
  const Folder folder;
  const std::string lines = std::string(64, '0') + "  ../../victim\n";
  put(folder.file(kManifestFile), lines + "# " + data::sha256(lines) + "\n");
  folder.refused<IoError>(folder.file(kManifestFile) + ": expected the SHA-256 of settings.toml, vocab.model",
                          "../../victim");
  check_throws<ConfigError>("'../x' is none of", [&] { Commit(folder.folder("new")).add("../x"); });
}

TEST_CASE("run folder: one process at a time; the second names the first, and a killed one holds nothing") {
  const Folder folder;
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    try {
      const RunLock lock(folder.path());
      [[maybe_unused]] const ssize_t told = write(ready[1], "x", 1);
      pause();
    } catch (...) {
    }
    _exit(1);
  }
  ::close(ready[1]);
  char told = 0;
  CHECK(::read(ready[0], &told, 1) == 1);
  ::close(ready[0]);
  const std::string before = bytes_of(folder.file(kLastFile));
  folder.refused<IoError>(
      "run folder: '" + folder.path() + "' is in use by process " + std::to_string(child) + " on ",
      "expected one training at a time");
  check_throws<IoError>("in use by process", [&] { Run(in_folder(folder.path())).fit(); });
  CHECK(bytes_of(folder.file(kLastFile)) == before);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(folder.names().size() == kWhole.size() + 1);  // its lock file is there, and holds nobody
  Run(in_folder(folder.path(), {.epochs = 3})).resume();
  CHECK(folder.names() == kWhole);
}

TEST_CASE("run folder: a lock is no link to follow") {
  const Folder folder;
  put(folder.file("victim"), "mine");
  fs::create_symlink(folder.file("victim"), folder.file(kLockFile));
  folder.refused<IoError>(folder.file(kLockFile) + ": cannot be written", "symbolic links");
  CHECK(bytes_of(folder.file("victim")) == "mine");
}

}  // namespace
}  // namespace tandem::nn
