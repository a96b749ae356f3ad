// Batches whose inputs differ between the passes of a step: all plans see each pass's own.
#include "models/vit/vit.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Views {
  explicit Views(DType dtype) {
    batch = whole(Blobs(12, dtype), 0, 12);
    Tensors each;
    for (uint64_t seed : {1, 2, 3})
      each.push_back(batch.inputs[0] + 0.3 * normal(batch.inputs[0].shape(), seed, dtype));
    batch.inputs[0] = stack_passes(each);
  }
  data::Batch batch;
};

struct Classifier : nn::Module {
  nn::Linear hidden{*this, "hidden", 6, 16}, out{*this, "out", 16, 4};
  nn::Dropout drop{*this, "drop", 0.3};
  Tensor forward(const Tensor& x) { return out(drop(gelu(hidden(x)))); }
};

}  // namespace

TEST_CASE("views: all plans give the same gradients, with dropout and without") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const double tolerance = dtype == DType::f64 ? 1e-10 : 1e-5;
    const Views views(dtype);
    for (const double scale : {1.0, 0.0})
      check_plans([&](const auto& options) { return outcome_of<Classifier>(dtype, {views.batch}, options); },
                  {.passes = 3, .alpha = 2, .rate_scale = scale, .seed = 3}, tolerance);
  }
}

TEST_CASE("views: they alone tell passes apart, and give a KL term") {
  const Views views(DType::f32);
  Classifier model;
  nn::Classification<Classifier> objective(model);
  const nn::StepOptions options{.passes = 3, .alpha = 1, .rate_scale = 0};
  CHECK(nn::draws_noise(objective, views.batch, options));
  CHECK(nn::accumulate_gradients(objective, {views.batch}, options).kl > 1e-3);
  data::Batch same = views.batch;
  same.inputs[0] = same.inputs[0].pass(1);
  CHECK(!nn::draws_noise(objective, same, options));
  CHECK(std::abs(nn::accumulate_gradients(objective, {same}, options).kl) < 1e-6);
}

TEST_CASE("views: the trainer asks for as many as the step has passes") {
  struct Asked : data::TensorDataset {
    using data::TensorDataset::TensorDataset;
    data::Batch batch(std::span<const int64_t> indices, const data::BatchContext& context) const override {
      if (context.training) asked.push_back({context.step, context.passes});
      return data::TensorDataset::batch(indices, context);
    }
    mutable std::vector<std::pair<uint64_t, int>> asked;
  };
  const data::Batch batch = whole(Blobs(12), 0, 12);
  const Asked train(batch.inputs, batch.target);
  Classifier model;
  nn::AdamW optimizer{model.parameters(), {.lr = 1e-2}};
  nn::Trainer trainer(model, optimizer,
                      {.passes = 3, .rdrop_every = 2, .epochs = 1, .batch_size = 3, .progress = false});
  trainer.fit(train, train);
  CHECK(train.asked == std::vector<std::pair<uint64_t, int>>{{0, 3}, {1, 1}, {2, 3}, {3, 1}});
}
