// Checkpoints within an epoch: from any of them a run goes on bit for bit.
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

// A run of three epochs of four steps, in which everything that a checkpoint has in it is in use.
struct Run {
  explicit Run(const std::string& dir, int64_t save_steps = 0)
      : trainer(model, optimizer,
                {.passes = 3,
                 .rates = {0.1, 0.2, 0.4},
                 .rdrop_every = 2,
                 .epochs = 3,
                 .batch_size = 12,
                 .accumulate = 2,
                 .schedule = Schedule::cosine(2, 13),
                 .clip_norm = 1,
                 .ema = 0.9,
                 .seed = 5,
                 .average = 2,
                 .run_dir = dir,
                 .save_steps = save_steps,
                 .progress = false}) {}
  FitResult fit() { return trainer.fit(train, valid); }
  FitResult resume() { return trainer.resume(train, valid); }
  // Ends the run after so many steps, saved or not.
  void stop_after(int64_t steps, bool saved) {
    trainer.on_step = [=, this](const Metrics& now) {
      if (now.step != steps) return;
      if (saved) trainer.save();
      throw Stop();
    };
  }

  Blobs train{44}, valid{16};
  Mlp model;
  AdamW optimizer{model.parameters(), AdamWOptions{.lr = 1e-2}};
  Trainer trainer;
};

void check_same_run(const Run& a, const FitResult& of_a, const Run& b, const FitResult& of_b) {
  CHECK(flat_parameters(a.model) == flat_parameters(b.model));
  REQUIRE(of_a.valid.size() == of_b.valid.size());
  for (size_t i = 0; i < of_a.valid.size(); ++i) {
    CHECK(of_a.valid[i].ce == of_b.valid[i].ce);
    CHECK(of_a.train[i].loss == of_b.train[i].loss);
    CHECK(of_a.train[i].kl == of_b.train[i].kl);
    CHECK(of_a.train[i].accuracy == of_b.train[i].accuracy);
    CHECK(of_a.train[i].step == of_b.train[i].step);
  }
}

TEST_CASE("saves: a run that is stopped and saved after any step goes on bit for bit, twice") {
  const Scratch whole_folder;
  Run whole(whole_folder.path());
  const FitResult expected = whole.fit();
  for (int64_t step = 1; step <= 12; ++step) {
    CAPTURE(step);
    const Scratch folder;
    {
      Run run(folder.path());
      run.stop_after(step, true);
      CHECK_THROWS_AS(run.fit(), Stop);
    }
    if (step < 12) {
      Run run(folder.path());
      run.stop_after(step + 1, true);
      CHECK_THROWS_AS(run.resume(), Stop);
    }
    Run run(folder.path());
    check_same_run(run, run.resume(), whole, expected);
    CHECK(fs::exists(folder.file(kBestFile)));
  }
}

TEST_CASE("saves: every so many steps, beside the training, which they do not change") {
  const Scratch whole_folder;
  Run whole(whole_folder.path());
  const FitResult expected = whole.fit();
  const int64_t every = 3;
  {
    const Scratch folder;
    Run run(folder.path(), every);
    check_same_run(run, run.fit(), whole, expected);
  }
  for (const int64_t step : {2, 3, 5, 7, 11}) {
    CAPTURE(step);
    const Scratch folder;
    {
      Run run(folder.path(), every);
      run.stop_after(step, false);
      CHECK_THROWS_AS(run.fit(), Stop);
    }
    if (step <= every) {
      CHECK_FALSE(fs::exists(folder.file(kLastFile)));
      continue;
    }
    // Saved last after the third step before it, or after the epoch.
    const int64_t saved = std::max((step - 1) / every * every, (step - 1) / 4 * 4);
    CHECK(load_safetensors(folder.file(kLastFile)).metadata.at("steps_done") == std::to_string(saved));
    Run run(folder.path());
    check_same_run(run, run.resume(), whole, expected);
  }
}

TEST_CASE("saves: a checkpoint that cannot be written ends the run with an error") {
  const Scratch folder;
  const std::string dir = folder.path() + "/run";
  Run run(dir, 1);
  run.trainer.on_step = [&](const Metrics& now) {
    if (now.step == 1) fs::remove_all(dir);
  };
  CHECK(contains(message_of<IoError>([&] { run.fit(); }), dir));
}

TEST_CASE("saves: an epoch's part that contradicts the rest is an error before training") {
  const Scratch folder;
  Run first(folder.path());
  first.stop_after(6, true);
  CHECK_THROWS_AS(first.fit(), Stop);
  fs::remove(folder.file(kManifestFile));
  auto [tensors, metadata] = load_safetensors(folder.file(kLastFile));
  std::string& part = metadata.at("epoch_part");
  std::string expected;
  SUBCASE("another number of steps") {
    part.replace(part.find("\"batches\":2"), 11, "\"batches\":3");
    expected = "1 epochs and 6 steps are done, but its record ends at epoch 1, step 7";
  }
  SUBCASE("more steps than an epoch has") {
    part.replace(part.find("\"batches\":2"), 11, "\"batches\":9");
    metadata.at("steps_done") = "13";
    expected = "9 batches of an epoch of 4 are done";
  }
  SUBCASE("cut short") {
    part.resize(part.size() / 2);
    expected = "its record of the epoch that has begun is damaged";
  }
  save_safetensors(folder.file(kLastFile), tensors, metadata);
  Run run(folder.path());
  const std::string message = message_of<IoError>([&] { run.resume(); });
  CHECK_MESSAGE(contains(message, expected), message);
}

}  // namespace
}  // namespace tandem::nn
