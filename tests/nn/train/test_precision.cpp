// Mixed precision: products in bf16, everything that is kept or summed in f32.
#include <doctest/doctest.h>

#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const models::VitConfig kVit{.image_size = 8,
                             .classes = 3,
                             .patch_size = 4,
                             .dim = 16,
                             .depth = 2,
                             .heads = 2,
                             .mlp_dim = 32,
                             .dropout = 0.2,
                             .attention_dropout = 0.2};

// Convolution and batch norm with a smooth activation: a max pool would choose others among values that bf16
// makes equal, and the gradient jump.
struct SmoothCnn : nn::Module {
  explicit SmoothCnn(int64_t width) : width(width) {}
  const int64_t width;
  nn::Conv2d conv{*this, "conv", 1, width, 3};
  nn::BatchNorm2d norm{*this, "norm", width};
  nn::Dropout drop{*this, "drop", 0.2};
  nn::Linear out{*this, "out", 36 * width, 3};
  Tensor forward(const Tensor& x) { return out(drop(gelu(norm(conv(x))).flatten(1))); }
};
const models::TransformerConfig kTransformer{.vocab = 20,
                                             .dim = 16,
                                             .heads = 2,
                                             .mlp_dim = 32,
                                             .encoder_layers = 1,
                                             .decoder_layers = 1,
                                             .max_positions = 8,
                                             .dropout = 0.2};

data::Batch images() { return random_images(12, 8); }

data::Batch sentences() {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 24; ++i) ids.push_back(1 + i * 7 % 19);
  const Tensor x = from_values(ids, {4, 6});
  return {{x, x}, x, {}, 4};
}

template <class Model, class Objective, class Config>
Outcome run(const Config& config, const data::Batch& batch, nn::StepOptions options,
            DType parameters = DType::f32) {
  const nn::InitScope init({.seed = 5, .dtype = parameters});
  Model model(config);
  Objective objective(model);
  const Outcome outcome = step_of(model, objective, {batch}, options);
  for (const Tensor& p : model.parameters()) {
    CHECK(p.dtype() == parameters);
    if (p.grad().defined()) CHECK(p.grad().dtype() == parameters);
  }
  return outcome;
}

// bf16 keeps 8 bits: one product is wrong by 2^-9 at most, a few layers of them by a few hundredths.
template <class Model, class Objective, class Config>
void check_precision(const Config& config, const data::Batch& batch) {
  nn::StepOptions options{.passes = 2, .alpha = 1, .seed = 2};
  const Outcome exact = run<Model, Objective>(config, batch, options);
  options.precision = DType::bf16;
  const Outcome stacked = run<Model, Objective>(config, batch, options);
  CHECK(stacked.result.ce == doctest::Approx(exact.result.ce).epsilon(0.02));
  CHECK(stacked.result.kl == doctest::Approx(exact.result.kl).epsilon(0.05));
  CHECK(distance(stacked.gradients, exact.gradients) < 0.04);
  CHECK(distance(stacked.gradients, exact.gradients) > 1e-4);  // something was computed in bf16
  for (const nn::Plan plan : {nn::Plan::sequential, nn::Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)));
    options.plan = plan;
    CHECK(distance(run<Model, Objective>(config, batch, options).gradients, stacked.gradients) < 0.02);
  }
}

}  // namespace

TEST_CASE("a bf16 step is the f32 step to bf16's precision, under every plan") {
  check_precision<models::Vit, nn::Classification<models::Vit>>(kVit, images());
  check_precision<SmoothCnn, nn::Classification<SmoothCnn>>(int64_t{4}, images());
  check_precision<models::Transformer, models::SequenceToSequence>(kTransformer, sentences());
}

TEST_CASE("a model of f64 stays one") {
  const data::Batch batch = images();
  data::Batch wide = batch;
  wide.inputs[0] = batch.inputs[0].to(DType::f64);
  nn::StepOptions options{.passes = 2, .alpha = 1};
  using Objective = nn::Classification<models::Vit>;
  const Outcome a = run<models::Vit, Objective>(kVit, wide, options, DType::f64);
  options.precision = DType::bf16;
  CHECK(run<models::Vit, Objective>(kVit, wide, options, DType::f64).gradients == a.gradients);
}

TEST_CASE("a model learns in bf16, and is evaluated in f32") {
  const Blobs train(256), test(128, DType::f32, 2);
  Mlp model;
  nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
  nn::Trainer trainer(model, optimizer,
                      {.passes = 2,
                       .alpha = 0.5,
                       .precision = DType::bf16,
                       .epochs = 8,
                       .batch_size = 32,
                       .progress = false});
  const nn::FitResult result = trainer.fit(train, test);
  CHECK(result.best().accuracy > 0.75);
  for (const Tensor& p : model.parameters()) CHECK(p.dtype() == DType::f32);
}

TEST_CASE("a precision that is none is refused") {
  Mlp model;
  nn::AdamW optimizer(model.parameters());
  CHECK_THROWS_WITH_AS(nn::Trainer(model, optimizer, {.precision = DType::f64}),
                       "precision: expected f32 or bf16, got f64", ConfigError);
  CHECK_THROWS_WITH_AS(PassContext({.compute = DType::i32}), "compute: expected f32 or bf16, got i32",
                       ConfigError);
}

TEST_CASE("a steady training step asks the system for no memory") {
  for (const DType precision : {DType::f32, DType::bf16}) {
    for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
      models::Vit model(kVit);
      nn::Classification<models::Vit> objective(model);
      nn::AdamW optimizer(model.parameters());
      const data::Batch batch = images();
      const auto step = [&](uint64_t number) {
        optimizer.zero_grad();
        nn::accumulate_gradients(objective, {batch},
                                 {.passes = 2, .precision = precision, .plan = plan, .step = number});
        optimizer.step();
      };
      for (uint64_t i = 0; i < 3; ++i) step(i);
      const int64_t before = backend(kCpu).stats().system_calls;
      for (uint64_t i = 3; i < 8; ++i) step(i);
      CHECK(backend(kCpu).stats().system_calls == before);
    }
  }
}
