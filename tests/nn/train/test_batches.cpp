// Batches that a training meets now and then: of one sample, without a unit that counts, of no stated size,
// and passes that are all the same.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "nn/optim/sgd.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// Blobs with labels of one's own.
data::TensorDataset labelled(const std::vector<int64_t>& labels) {
  const int64_t count = std::ssize(labels);
  return {whole(Blobs(count), 0, count).inputs, from_values(labels, {count})};
}

// Counts what it is shown.
struct WithNorm : nn::Module {
  nn::Linear in{*this, "in", 6, 4}, out{*this, "out", 4, 4};
  nn::BatchNorm2d norm{*this, "norm", 4};
  std::vector<int64_t> sizes;
  Tensor forward(const Tensor& x) {
    sizes.push_back(x.size(0));
    return out(norm(in(x).reshape({-1, 4, 1, 1})).flatten(1));
  }
};

template <class Model> struct Run {
  explicit Run(nn::TrainerOptions options)
      : optimizer(model.parameters(), nn::SGDOptions{.lr = 0.1, .momentum = 0.9}),
        trainer(model, optimizer, std::move(options)) {}
  Model model;
  nn::SGD optimizer;
  nn::Trainer trainer;
};

}  // namespace

TEST_CASE("a step none of whose units counts changes nothing but the number of steps") {
  const data::TensorDataset train = labelled({0, 1, -100, 2}), valid = labelled({0, 1});
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    Run<Mlp> run({.plan = plan, .epochs = 2, .batch_size = 1, .progress = false});
    auto before = flat_parameters(run.model);
    int64_t skipped = 0, steps = 0;
    run.trainer.on_step = [&](const nn::Metrics& now) {
      const auto weights = flat_parameters(run.model);
      skipped += weights == before;
      CHECK(now.step == ++steps);
      CHECK(std::isfinite(now.loss));
      before = weights;
    };
    const nn::FitResult fit = run.trainer.fit(train, valid);
    CHECK(skipped == 2);
    for (const nn::Metrics& epoch : fit.train) {
      CHECK(epoch.ce > 0.5);  // the mean over what counts
      CHECK(std::isfinite(epoch.loss));
      CHECK(epoch.accuracy >= 0);
    }
    CHECK(fit.train.back().step == 8);
  }
  Run<Mlp> run({.batch_size = 2, .progress = false});
  const nn::StepResult step = run.trainer.step({whole(labelled({-100, -100}), 0, 2)});
  CHECK(step.units == 0);
  CHECK(step.loss == 0);
}

TEST_CASE("data of which no unit counts is an error before the first step") {
  const data::TensorDataset some = labelled({0, -100}), none = labelled({-100, -100});
  Run<Mlp> run({.epochs = 1, .progress = false});
  int steps = 0;
  run.trainer.on_step = [&](const nn::Metrics&) { ++steps; };
  check_throws<ValueError>("no unit of the training data set counts", [&] { run.trainer.fit(none, some); });
  check_throws<ValueError>("no unit of the validation data set counts", [&] { run.trainer.fit(some, none); });
  CHECK(steps == 0);
}

TEST_CASE("a batch of one sample, which batch norm cannot take, is an error before the first step") {
  const Blobs train(5), valid(4);
  for (const nn::TrainerOptions& options :
       {nn::TrainerOptions{.epochs = 1, .batch_size = 4, .progress = false},  // 4 and 1
        nn::TrainerOptions{
            .epochs = 1, .batch_size = 5, .accumulate = 2, .drop_last = true, .progress = false}}) {  // 3 + 2
    Run<WithNorm> run(options);
    int steps = 0;
    run.trainer.on_step = [&](const nn::Metrics&) { ++steps; };
    if (options.accumulate == 2) {
      run.trainer.fit(train, valid);
      continue;
    }
    const std::string message = message_of<ValueError>([&] { run.trainer.fit(train, valid); });
    CHECK_MESSAGE(contains(message, "an epoch of 5 samples has a batch of one: batch_norm"), message);
    CHECK_MESSAGE(contains(message, "drop_last leaves it out"), message);
    CHECK(steps == 0);
    CHECK(values(run.model.norm.running_mean) == std::vector<double>(4, 0));
  }
}

TEST_CASE("drop_last leaves out the batch that is not full, as if its samples were not there") {
  const Blobs train(9), valid(4);
  Run<WithNorm> run({.passes = 1, .epochs = 3, .batch_size = 4, .drop_last = true, .progress = false});
  const nn::FitResult fit = run.trainer.fit(train, valid);
  CHECK(fit.train.back().step == 6);
  CHECK(std::count(run.model.sizes.begin(), run.model.sizes.end(), 4) == 6 + 3);  // with validation
  CHECK(std::count(run.model.sizes.begin(), run.model.sizes.end(), 1) == 0);
  Run<WithNorm> none({.batch_size = 10, .drop_last = true, .progress = false});
  check_throws<ConfigError>("drop_last: no batch has 10 samples", [&] { none.trainer.fit(train, valid); });
}

TEST_CASE("a model that can take one sample is trained with the last batch of one") {
  Run<Mlp> run({.epochs = 1, .batch_size = 4, .progress = false});
  CHECK(run.trainer.fit(Blobs(5), Blobs(4)).train.back().step == 2);
}

TEST_CASE("a batch whose size was forgotten, or is not that of its inputs, is an error") {
  Mlp model;
  nn::Classification<Mlp> objective(model);
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    data::Batch batch = whole(Blobs(4), 0, 4);
    batch.size = 0;
    const auto run = [&] {
      nn::accumulate_gradients(objective, {whole(Blobs(4), 0, 4), batch}, {.plan = plan});
    };
    check_throws<ShapeError>("batch: its size is 0, expected the number of its samples", run);
    batch.size = 2;
    check_throws<ShapeError>("batch: input 0 is f32[4,6], expected 2 samples along its first dimension", run);
    CHECK_THROWS_AS(nn::draws_noise(objective, batch, {}), ShapeError);
  }
  struct Forgetful final : data::Dataset {
    int64_t size() const override { return 4; }
    data::Batch batch(std::span<const int64_t>, const data::BatchContext&) const override {
      data::Batch batch = whole(Blobs(4), 0, 4);
      batch.size = 0;
      return batch;
    }
  };
  check_throws<ShapeError>("batch: its size is 0", [&] { nn::evaluate(objective, Forgetful()); });
  Run<Mlp> run({.progress = false});
  check_throws<ShapeError>("batch: its size is 0", [&] { run.trainer.fit(Forgetful(), Blobs(4)); });
  const data::Batch bare{{}, zeros({4}, {DType::i64}), {}, 4};
  check_throws<ShapeError>("batch: it has no inputs", [&] { objective.forward(bare); });
}

TEST_CASE("a data set of tensors has their samples, each with its target") {
  const Tensor x = arange(0, 12).reshape({4, 3}), y = tensor({5, 6, 7, 8});
  const data::TensorDataset all({x, x + 100}, y);
  CHECK(all.size() == 4);
  const data::TensorDataset part = all.subset(data::Indices{3, 0, 2});
  CHECK(part.size() == 3);
  const data::Batch batch = part.batch(data::Indices{1, 0}, {});
  CHECK(batch.size == 2);
  CHECK(batch.inputs[0].to_vector<float>() == std::vector<float>{0, 1, 2, 9, 10, 11});
  CHECK(batch.inputs[1].to_vector<float>() == std::vector<float>{100, 101, 102, 109, 110, 111});
  CHECK(batch.target.to_vector<float>() == std::vector<float>{5, 8});
  CHECK_THROWS_AS(part.batch(data::Indices{3}, {}), ValueError);
  check_throws<ShapeError>("TensorDataset: expected inputs and a target",
                           [&] { data::TensorDataset({}, y); });
  check_throws<ShapeError>("TensorDataset: expected inputs and a target",
                           [&] { data::TensorDataset({x}, scalar(1)); });
  check_throws<ShapeError>("TensorDataset: input 1 is f32[3,4], expected 4 samples, as the target f32[4] has",
                           [&] {
                             data::TensorDataset({x, x.t()}, y);
                           });
}

TEST_CASE("a data set of tensors has what is named beside them") {
  const Tensor x = arange(0, 12).reshape({4, 3}), y = tensor({5, 6, 7, 8});
  const data::TensorDataset all({x}, y, {{"height", y * 10}, {"mask", x > 5}});
  const data::Batch batch = all.subset(data::Indices{3, 0, 2}).batch(data::Indices{2, 0}, {});
  CHECK_NOTHROW(batch.check_size());
  CHECK(batch["height"].to_vector<float>() == std::vector<float>{70, 80});
  CHECK(batch["mask"].shape() == Shape{2, 3});
  check_throws<ConfigError>("expected one of: height, mask", [&] { batch["weight"]; });
  check_throws<ShapeError>("TensorDataset: \"height\" is f32[3], expected 4 samples", [&] {
    data::TensorDataset({x}, y, {{"height", arange(3)}});
  });
}

TEST_CASE("a subset of any data set has its samples, in its order") {
  struct Squares : data::Dataset {
    mutable data::Indices prefetched;
    std::string told;
    int64_t size() const override { return 10; }
    data::Batch batch(std::span<const int64_t> indices, const data::BatchContext&) const override {
      const Tensor i = tensor(data::Indices(indices.begin(), indices.end()));
      return {.inputs = {i * i}, .target = i, .size = i.size(0)};
    }
    void prefetch(std::span<const int64_t> indices, const data::BatchContext&) const override {
      prefetched.assign(indices.begin(), indices.end());
    }
    std::string identity() const override { return told; }
  } squares;
  const data::Indices order = data::shuffled(squares.size(), /*seed=*/7, /*epoch=*/0);
  const data::Subset train(squares, std::span(order).first(7)), valid(squares, std::span(order).subspan(7));
  CHECK(train.size() == 7);
  CHECK(valid.size() == 3);
  std::vector<int64_t> seen;
  for (const data::Subset* part : {&train, &valid})
    for (const data::Indices& indices : part->ordered_batches(2)) {
      const data::Batch batch = part->batch(indices, {});
      CHECK(equal(batch.inputs[0], batch.target * batch.target));
      for (const int64_t i : batch.target.to_vector<int64_t>()) seen.push_back(i);
    }
  CHECK(seen == order);
  valid.prefetch(data::Indices{2, 0}, {});
  CHECK(squares.prefetched == data::Indices{order[9], order[7]});
  CHECK(data::fingerprint(train) != data::fingerprint(data::Subset(squares, std::span(order).last(7))));
  CHECK(train.identity().empty());
  squares.told = "squares";  // one that is not asked for its samples
  CHECK(data::fingerprint(train) != data::fingerprint(data::Subset(squares, std::span(order).last(7))));
  CHECK(train.identity().ends_with(": squares"));
  check_throws<ValueError>("Subset: index 10 is out of range, the data set has 10 samples", [&] {
    data::Subset(squares, data::Indices{3, 10});
  });
  check_throws<ValueError>("Subset: index 7 is out of range, it has 7 samples",
                           [&] { train.batch(data::Indices{7}, {}); });
}

TEST_CASE("whether noise is active can be asked, and the passes are equal where it is not") {
  struct Rate : nn::Module {
    explicit Rate(double p) : drop(*this, "drop", p) {}
    nn::Linear out{*this, "out", 6, 4};
    nn::Dropout drop;
    Tensor forward(const Tensor& x) { return out(drop(x)); }
  };
  const data::Batch batch = whole(Blobs(4), 0, 4);
  const auto noisy = [&](Rate& model, const nn::StepOptions& options) {
    nn::Classification<Rate> objective(model);
    const bool told = nn::draws_noise(objective, batch, options);
    CHECK((nn::accumulate_gradients(objective, {batch}, options).kl > 0) == told);
    return told;
  };
  Rate model(0.3), none(0);
  CHECK(noisy(model, {}));
  CHECK(noisy(model, {.rates = {0, 0.5}}));
  CHECK(!noisy(model, {.rates = {0, 0}}));
  CHECK(!noisy(model, {.rate_scale = 0}));
  CHECK(!noisy(none, {}));
  CHECK(!noisy(none, {.rates = {0.5, 0.5}}));  // they replace rates above 0
  model.eval();
  CHECK(!noisy(model, {}));
}

TEST_CASE("a measure that is NaN is worse than every number, whichever way is better") {
  for (const bool higher : {true, false}) {
    int epoch = 0;
    const double measures[] = {NAN, NAN, 0.5, NAN, higher ? 0.25 : 0.75, NAN};
    nn::TrainerOptions options{.epochs = 6, .batch_size = 8, .progress = false};
    options.metric = {"score", [&](const nn::Metrics&) { return measures[epoch++]; }, higher};
    Run<Mlp> run(options);
    CHECK(run.trainer.fit(Blobs(8), Blobs(4)).best_epoch == 2);
  }
}
