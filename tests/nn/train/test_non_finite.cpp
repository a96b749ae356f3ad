// Steps that are not finite: what is told of them, and how a run goes on.
#include "nn/train/non_finite.h"

#include <filesystem>

#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/train/run_folder.h"
#include "tests/files.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

// A model whose middle overflows at points beyond 1000, and is what Mlp is elsewhere.
struct Fragile : Module {
  struct Power : Layer<Power> {
    using Layer::Layer;
    Tensor forward(const Tensor& x) { return x + 0 * exp(x * 0.1); }
  };
  Power power{*this, "power"};
  Linear first{*this, "first", 6, 16}, out{*this, "out", 16, 4};
  Dropout drop{*this, "drop", 0.2};
  Tensor forward(const Tensor& x) { return out(drop(tanh(first(power(x))))); }
};

// Blobs with samples that no float can take.
struct Spiked final : data::Dataset {
  Spiked(int64_t count, std::vector<int64_t> bad, float value = 2000)
      : blobs(count), bad(std::move(bad)), value(value) {}
  int64_t size() const override { return blobs.size(); }
  data::Batch batch(std::span<const int64_t> indices, const data::BatchContext& context) const override {
    data::Batch batch = blobs.batch(indices, context);
    const NoGradGuard no_grad;
    for (size_t i = 0; i < indices.size(); ++i)
      if (std::find(bad.begin(), bad.end(), indices[i]) != bad.end())
        batch.inputs[0].select(0, static_cast<int64_t>(i)).fill_(value);
    return batch;
  }
  Blobs blobs;
  std::vector<int64_t> bad;
  float value;
};

constexpr int64_t kBatch = 4, kSteps = 11;  // of an epoch of 44

struct Run {
  explicit Run(TrainerOptions options, std::vector<int64_t> bad = {}, float value = 2000)
      : train(kBatch * kSteps, std::move(bad), value), trainer(model, optimizer, of(std::move(options))) {}
  static TrainerOptions of(TrainerOptions options) {
    options.batch_size = kBatch, options.epochs = 2, options.progress = false, options.seed = 3;
    options.ema = 0.9, options.average = 2;
    return options;
  }
  FitResult fit() { return trainer.fit(train, valid); }
  FitResult resume() { return trainer.resume(train, valid); }

  Spiked train;
  Blobs valid{16};
  Fragile model;
  AdamW optimizer{model.parameters(), AdamWOptions{.lr = 1e-2}};
  Trainer trainer;
};

// The samples of a step, counted from 0 in the run.
data::Indices samples_of(int64_t step) {
  return Blobs(kBatch * kSteps).shuffled_batches(3, step / kSteps, kBatch).at(step % kSteps);
}

void check_same_run(const Run& a, const FitResult& of_a, const Run& b, const FitResult& of_b) {
  CHECK(flat_parameters(a.model) == flat_parameters(b.model));
  REQUIRE(of_a.train.size() == of_b.train.size());
  for (size_t i = 0; i < of_a.train.size(); ++i) {
    CHECK(of_a.train[i].loss == of_b.train[i].loss);
    CHECK(of_a.train[i].step == of_b.train[i].step);
    CHECK(of_a.valid[i].ce == of_b.valid[i].ce);
  }
  CHECK(of_a.skipped == of_b.skipped);
}

TEST_CASE("not finite: the error names step, op, module, samples and the last checkpoint") {
  const Scratch folder;
  const int64_t sample = samples_of(5)[1];
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    for (const DType precision : {DType::f32, DType::bf16}) {
      CAPTURE(std::string(name_of(plan)));
      Run run({.precision = precision, .plan = plan, .run_dir = folder.path(), .save_steps = 2}, {sample});
      std::vector<double> before;
      run.trainer.on_step = [&](const Metrics& now) {
        if (now.step == 5) before = flat_parameters(run.model);
      };
      const std::string message = message_of<NonFiniteError>([&] { run.fit(); });
      for (const std::string& part :
           {std::string("step 6 is not finite: "), std::string("expected a finite value"),
            std::string("its origin: exp made inf in 6 of 24 elements of f32[4,6], of finite inputs; in "
                        "power; then affine "
                        "made nan in 6 of 24 elements of f32[4,6], of none in its inputs; in power; "),
            fmt::format("its batch: {}", list_of(samples_of(5))),
            folder.path() + "/last.safetensors, after step 4"})
        CHECK_MESSAGE(contains(message, part), message, "; expected: ", part);
      CHECK(flat_parameters(run.model) == before);
      CHECK(run.trainer.steps_done() == 5);
    }
  }
}

TEST_CASE("not finite: samples that are not finite themselves, and parameters, are named") {
  const data::Indices bad{samples_of(2)[3], samples_of(2)[0]};
  const std::string message = message_of<NonFiniteError>([&] { Run({}, bad, NAN).fit(); });
  CHECK_MESSAGE(
      contains(message,
               fmt::format("the batch's input 0 has nan, in samples {}, {} of the data set", bad[1], bad[0])),
      message);
  CHECK_MESSAGE(contains(message, "the last checkpoint: none"), message);
  Run run({});
  {
    const NoGradGuard no_grad;
    run.model.out.bias.fill_(INFINITY);
  }
  check_throws<NonFiniteError>("its origin: the parameter out.bias has inf", [&] { run.fit(); });
}

TEST_CASE("not finite: a gradient, of a loss that is finite") {
  Run run({});
  run.model.first.weight.register_hook([](const Tensor& g) { return g * INFINITY; });
  const auto before = flat_parameters(run.model);
  const std::string message = message_of<NonFiniteError>([&] { run.fit(); });
  CHECK_MESSAGE(contains(message, "step 1 is not finite: gradient: its norm is inf at step 1;"), message);
  CHECK_MESSAGE(contains(message, "its origin: affine made inf"), message);
  CHECK(flat_parameters(run.model) == before);
}

TEST_CASE("on_nan skip: the step changes nothing, and the run goes on bit for bit from anywhere") {
  const std::vector<int64_t> bad{samples_of(5)[1]};
  const Scratch whole_folder;
  Run whole({.on_nan = OnNan::skip, .run_dir = whole_folder.path()}, bad);
  std::vector<double> before, after;
  std::vector<int64_t> skipped;
  whole.trainer.on_step = [&](const Metrics& now) {
    if (now.step == 5) before = flat_parameters(whole.model);
    if (now.step == 6) after = flat_parameters(whole.model);
    if (now.skipped) skipped.push_back(now.step);
    CHECK(std::isnan(now.loss) == now.skipped);
  };
  const FitResult expected = whole.fit();
  CHECK(before == after);
  REQUIRE(skipped.size() == 2);  // once in each epoch
  CHECK(skipped[0] == 6);
  CHECK(expected.skipped == 2);
  CHECK(std::isfinite(expected.train[0].loss));
  CHECK(expected.train[1].step == 2 * kSteps);
  for (int64_t stop = 1; stop < 2 * kSteps; stop += 2) {
    CAPTURE(stop);
    const Scratch folder;
    {
      Run run({.on_nan = OnNan::skip, .run_dir = folder.path()}, bad);
      run.trainer.on_step = [&](const Metrics& now) {
        if (now.step != stop) return;
        run.trainer.save();
        throw 1;
      };
      CHECK_THROWS_AS(run.fit(), int);
    }
    Run run({.on_nan = OnNan::skip, .run_dir = folder.path()}, bad);
    check_same_run(run, run.resume(), whole, expected);
  }
}

TEST_CASE("on_nan skip: after ten steps in a row it stops, wherever it was resumed") {
  std::vector<int64_t> all(kBatch * kSteps);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  const Scratch folder;
  const TrainerOptions options{.on_nan = OnNan::skip, .run_dir = folder.path()};
  Run run(options, all);
  check_throws<NonFiniteError>("10 steps before it were skipped in a row", [&] { run.fit(); });
  CHECK(run.trainer.steps_done() == 10);
  Run first(options, all);
  first.trainer.on_step = [&](const Metrics& now) {
    if (now.step != 4) return;
    first.trainer.save();
    throw 1;
  };
  CHECK_THROWS_AS(first.fit(), int);
  Run second(options, all);
  check_throws<NonFiniteError>("step 11 is not finite", [&] { second.resume(); });
}

TEST_CASE("on_nan back: the weights of the last checkpoint, and the batches since then left out") {
  const std::vector<int64_t> bad{samples_of(5)[1]};
  const auto fit = [&](const std::string& dir, int64_t stop, bool saved) {
    Run run({.on_nan = OnNan::back, .run_dir = dir, .save_steps = 4}, bad);
    std::map<int64_t, std::vector<double>> weights;
    run.trainer.on_step = [&](const Metrics& now) {
      weights[now.step] = flat_parameters(run.model);
      if (now.step != stop) return;
      if (saved) run.trainer.save();
      throw 1;
    };
    try {
      run.fit();
    } catch (int) {
    }
    return weights;
  };
  const Scratch whole_folder;
  Run whole({.on_nan = OnNan::back, .run_dir = whole_folder.path(), .save_steps = 4}, bad);
  const FitResult expected = whole.fit();
  {
    const Scratch folder;
    const auto weights = fit(folder.path(), -1, false);
    CHECK(weights.at(6) == weights.at(4));
    CHECK(weights.at(5) != weights.at(4));
    CHECK(weights.at(7) != weights.at(6));
  }
  CHECK(expected.skipped >= 2);  // steps 5 and 6
  for (const int64_t stop : {5, 6, 7, 9, 13, 18}) {
    for (const bool saved : {true, false}) {
      CAPTURE(stop);
      const Scratch folder;
      fit(folder.path(), stop, saved);
      if (saved && stop == 5) continue;  // another checkpoint to go back to
      if (saved && stop > kSteps) continue;
      Run run({.on_nan = OnNan::back, .run_dir = folder.path(), .save_steps = 4}, bad);
      check_same_run(run, run.resume(), whole, expected);
    }
  }
}

TEST_CASE("on_nan back: without a checkpoint, and a second time from the same one, it stops") {
  const Scratch folder;
  const TrainerOptions options{.on_nan = OnNan::back, .run_dir = folder.path(), .save_steps = 4};
  check_throws<NonFiniteError>("there is no checkpoint to go back to",
                               [&] { Run(options, {samples_of(2)[0]}).fit(); });
  const std::string message = message_of<NonFiniteError>([&] {
    Run(options, {samples_of(5)[1], samples_of(6)[0]}).fit();
  });
  CHECK_MESSAGE(contains(message, "step 7 is not finite"), message);
  CHECK_MESSAGE(contains(message, "it was gone back to before, and none was written since"), message);
  // A checkpoint of weights that were gone back to is the same one.
  Run often({.on_nan = OnNan::back, .run_dir = folder.path(), .save_steps = 1},
            {samples_of(5)[1], samples_of(6)[0]});
  check_throws<NonFiniteError>("it was gone back to before, and none was written since",
                               [&] { often.fit(); });
  CHECK(often.trainer.steps_done() == 6);
  Run resumed({.on_nan = OnNan::back, .run_dir = folder.path(), .save_steps = 1},
              {samples_of(5)[1], samples_of(6)[0]});
  check_throws<NonFiniteError>("it was gone back to before, and none was written since",
                               [&] { resumed.resume(); });
  check_throws<ConfigError>("on_nan: back needs a run_dir", [] { Run({.on_nan = OnNan::back}); });
  CHECK_THROWS_AS(parse_on_nan("go"), ConfigError);
  for (const OnNan on_nan : {OnNan::stop, OnNan::skip, OnNan::back})
    CHECK(parse_on_nan(name_of(on_nan)) == on_nan);
}

}  // namespace
}  // namespace tandem::nn
