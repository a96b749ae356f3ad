// stacked = sequential = replay, and 1 x 64 = 4 x 16: the same loss and gradients, to rounding.
#include <doctest/doctest.h>

#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::pair<DType, double> kTolerances[] = {{DType::f64, 1e-10}, {DType::f32, 1e-5}};

// Of Model(arguments...), for each number of passes.
template <class Model, class... Arguments>
void check_all_plans(DType dtype, const std::vector<data::Batch>& batches, double tolerance,
                     const Arguments&... arguments) {
  const std::vector<std::vector<double>> rates = {{0.1, 0.5}, {0.3, 0, 0.6}, {0.1, 0.2, 0.3, 0.4, 0.5}};
  for (const auto& list : rates) {
    check_plans([&](const auto& options) { return outcome_of<Model>(dtype, batches, options, arguments...); },
                {.passes = static_cast<int>(list.size()),
                 .alpha = 2,
                 .label_smoothing = 0.1,
                 .rates = list,
                 .seed = 3,
                 .step = 5},
                tolerance);
  }
}

}  // namespace

namespace {

// A shared body, and a head each for a class and for a number.
struct TwoHeads : nn::Module {
  nn::Linear body{*this, "body", 6, 16}, classes{*this, "classes", 16, 4}, height{*this, "height", 16, 1};
  nn::Dropout drop{*this, "drop", 0.3};
  Tensors forward(const Tensor& x) {
    const Tensor y = drop(gelu(body(x)));
    return {classes(y), height(y)};
  }
};
struct BothLosses : nn::MultiObjective {
  TwoHeads& model;
  explicit BothLosses(TwoHeads& model) : model(model) {}
  nn::Module& module() override { return model; }
  Tensors outputs(const data::Batch& batch) override { return model.forward(batch.inputs[0]); }
  LossParts loss_of(const Tensors& heads, const data::Batch& batch, const RDropOptions& options,
                    int passes) override {
    return rdrop_cross_entropy(heads[0], batch.target, options, batch.valid, passes) +
           0.5 * rdrop_mse(heads[1], batch["height"], options, batch.valid);
  }
};

}  // namespace

TEST_CASE("two heads: all plans give the same gradients, and the trainer learns both") {
  for (const auto& [dtype, tolerance] : kTolerances) {
    data::Batch batch = whole(Blobs(24, dtype), 0, 24);
    batch.named["height"] = batch.inputs[0].sum({1});
    check_plans(
        [&](const auto& options) { return outcome_of<TwoHeads, BothLosses>(dtype, {batch}, options); },
        {.passes = 3, .alpha = 2, .seed = 3}, tolerance);
  }
  data::Batch batch = whole(Blobs(24), 0, 24);
  batch.named["height"] = batch.inputs[0].sum({1});
  TwoHeads model;
  BothLosses objective(model);
  nn::AdamW optimizer{model.parameters(), {.lr = 1e-2}};
  nn::Trainer trainer(objective, optimizer, {.passes = 2});
  const double first = trainer.step({batch}).loss;
  for (int i = 0; i < 100; ++i) trainer.step({batch});
  CHECK(trainer.step({batch}).loss < first / 3);
  batch.named["height"] = ones({23});
  check_throws<ShapeError>("batch: \"height\" is f32[23], expected 24 samples",
                           [&] { trainer.step({batch}); });
  batch.named.clear();
  check_throws<ConfigError>("batch: it has nothing named \"height\"", [&] { trainer.step({batch}); });
  Mlp other;
  nn::AdamW of_another{other.parameters(), {.lr = 1e-2}};
  check_throws<ConfigError>("optimizer: its parameter 0, f32[16,6], is not one of the model's",
                            [&] { nn::Trainer(objective, of_another); });
}

TEST_CASE("an MLP: all plans give the same gradients") {
  for (const auto& [dtype, tolerance] : kTolerances) {
    check_all_plans<Mlp>(dtype, {whole(Blobs(24, dtype), 0, 24)}, tolerance);
  }
}

TEST_CASE("a ViT with attention dropout and drop path: all plans give the same gradients") {
  const models::VitConfig config{.image_size = 8,
                                 .classes = 3,
                                 .patch_size = 4,
                                 .dim = 8,
                                 .depth = 2,
                                 .heads = 2,
                                 .mlp_dim = 16,
                                 .dropout = 0.2,
                                 .attention_dropout = 0.2,
                                 .drop_path = 0.2};
  for (const auto& [dtype, tolerance] : kTolerances) {
    check_all_plans<models::Vit>(dtype, {random_images(6, 8, dtype)}, tolerance, config);
  }
}

TEST_CASE("a CNN with batch norm: all plans give the same gradients and running statistics") {
  const models::CnnConfig config{.image_size = 8, .classes = 3, .width = 4};
  for (const auto& [dtype, tolerance] : kTolerances) {
    check_all_plans<models::Cnn>(dtype, {random_images(6, 8, dtype)}, tolerance, config);
    check_all_plans<models::Cnn>(dtype, {random_images(6, 8, dtype), random_images(4, 8, dtype)}, tolerance,
                                 config);
  }
}

TEST_CASE("noise before batch norm: statistics stay those of each pass") {
  struct Net : nn::Module {
    nn::Dropout drop{*this, "drop", 0.3};
    nn::Conv2d conv{*this, "conv", 1, 3, 3, {}};
    nn::BatchNorm2d norm{*this, "norm", 3};
    nn::Linear out{*this, "out", 3 * 36, 3};
    Tensor forward(const Tensor& x) { return out(relu(norm(conv(drop(x)))).flatten(1)); }
  };
  check_all_plans<Net>(DType::f64, {random_images(5, 8, DType::f64)}, 1e-10);
}

TEST_CASE("1 x 64 = 4 x 16: micro-batches change nothing, whatever their sizes") {
  for (const auto& [dtype, tolerance] : kTolerances) {
    const Blobs blobs(64, dtype);
    const std::vector<data::Batch> one = {whole(blobs, 0, 64)};
    const std::vector<data::Batch> four = {whole(blobs, 0, 16), whole(blobs, 16, 32), whole(blobs, 32, 48),
                                           whole(blobs, 48, 64)};
    const std::vector<data::Batch> uneven = {whole(blobs, 0, 40), whole(blobs, 40, 41), whole(blobs, 41, 64)};
    for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
      const nn::StepOptions options{.passes = 3, .alpha = 1, .plan = plan, .seed = 2};
      const Outcome whole_batch = outcome_of<Mlp>(dtype, one, options);
      for (const auto& cut : {four, uneven}) {
        const Outcome outcome = outcome_of<Mlp>(dtype, cut, options);
        CHECK(outcome.result.loss == doctest::Approx(whole_batch.result.loss).epsilon(tolerance));
        CHECK(distance(outcome.gradients, whole_batch.gradients) < tolerance);
      }
    }
  }
}

TEST_CASE("the valid mask counts units, and masked samples change nothing") {
  const Blobs blobs(12, DType::f64);
  const nn::StepOptions options{.passes = 2, .alpha = 1, .seed = 2};
  data::Batch masked = whole(blobs, 0, 12);
  std::vector<uint8_t> valid(12, 1);
  for (int i = 8; i < 12; ++i) valid[i] = 0;
  masked.valid = from_values(valid, {12}).to(DType::boolean);
  const Outcome a = outcome_of<Mlp>(DType::f64, {masked}, options),
                b = outcome_of<Mlp>(DType::f64, {whole(blobs, 0, 8)}, options);
  CHECK(a.result.units == 8);
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(1e-12));
  CHECK(distance(a.gradients, b.gradients) < 1e-12);
}
