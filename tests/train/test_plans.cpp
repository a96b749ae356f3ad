// stacked = sequential = replay, and 1 x 64 = 4 x 16: the same loss and gradients, to rounding.
#include <doctest/doctest.h>

#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "tests/train/toy.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Outcome {
  nn::StepResult result;
  std::vector<double> gradients, buffers;
};

template <class Model>
Outcome run(Model& model, const std::vector<data::Batch>& batches, nn::StepOptions options) {
  nn::Classification<Model> objective(model);
  model.train();
  model.zero_grad();
  Outcome outcome{nn::accumulate_gradients(objective, batches, options), flat_gradients(model), {}};
  model.commit_statistics();
  for (const auto& [name, buffer] : model.named_buffers()) {
    const auto values = buffer.template to_vector<double>();
    outcome.buffers.insert(outcome.buffers.end(), values.begin(), values.end());
  }
  return outcome;
}

// `make` builds the same model each time, so that running statistics start equal.
template <class Make>
void check_plans(Make make, const std::vector<data::Batch>& batches, double tolerance) {
  const std::vector<std::vector<double>> rates = {{0.1, 0.5}, {0.3, 0, 0.6}, {0.1, 0.2, 0.3, 0.4, 0.5}};
  for (const auto& list : rates) {
    nn::StepOptions options{.passes = static_cast<int>(list.size()),
                            .alpha = 2,
                            .label_smoothing = 0.1,
                            .rates = list,
                            .seed = 3,
                            .step = 5};
    auto reference_model = make();
    options.plan = nn::Plan::sequential;
    const Outcome reference = run(*reference_model, batches, options);
    CHECK(reference.result.kl > 1e-4);
    for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::replay}) {
      INFO("plan ", std::string(name_of(plan)), ", m = ", list.size());
      auto model = make();
      options.plan = plan;
      const Outcome outcome = run(*model, batches, options);
      CHECK(outcome.result.ce == doctest::Approx(reference.result.ce).epsilon(tolerance));
      CHECK(outcome.result.kl == doctest::Approx(reference.result.kl).epsilon(tolerance * 10));
      CHECK(distance(outcome.gradients, reference.gradients) < tolerance);
      if (!reference.buffers.empty()) CHECK(distance(outcome.buffers, reference.buffers) < tolerance);
    }
  }
}

data::Batch random_images(int64_t count, int64_t size, DType dtype) {
  std::vector<double> pixels(count * size * size);
  fill_normal(noise_key(9, 0, 0, 0, Purpose::init), 0, 1, pixels.data(), count * size * size);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back(i % 3);
  return {{from_values(pixels, {count, 1, size, size}).to(dtype)}, from_values(labels, {count}), {}, count};
}

template <class Model, class... Arguments>
auto maker(DType dtype, Arguments... arguments) {
  return [=] {
    nn::InitScope init({.seed = 11, .dtype = dtype});
    return std::make_unique<Model>(arguments...);
  };
}

}  // namespace

TEST_CASE("an MLP: all plans give the same gradients") {
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 1e-5}}) {
    check_plans(maker<Mlp>(dtype), {whole(Blobs(24, dtype), 0, 24)}, tolerance);
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
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 1e-5}}) {
    check_plans(maker<models::Vit>(dtype, config), {random_images(6, 8, dtype)}, tolerance);
  }
}

TEST_CASE("a CNN with batch norm: all plans give the same gradients and running statistics") {
  const models::CnnConfig config{.image_size = 8, .classes = 3, .width = 4};
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 1e-5}}) {
    check_plans(maker<models::Cnn>(dtype, config), {random_images(6, 8, dtype)}, tolerance);
    check_plans(maker<models::Cnn>(dtype, config), {random_images(6, 8, dtype), random_images(4, 8, dtype)},
                tolerance);
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
  check_plans(maker<Net>(DType::f64), {random_images(5, 8, DType::f64)}, 1e-10);
}

TEST_CASE("1 x 64 = 4 x 16: micro-batches change nothing, whatever their sizes") {
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 1e-5}}) {
    const Blobs blobs(64, dtype);
    const std::vector<data::Batch> one = {whole(blobs, 0, 64)};
    const std::vector<data::Batch> four = {whole(blobs, 0, 16), whole(blobs, 16, 32), whole(blobs, 32, 48),
                                           whole(blobs, 48, 64)};
    const std::vector<data::Batch> uneven = {whole(blobs, 0, 40), whole(blobs, 40, 41), whole(blobs, 41, 64)};
    for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
      const nn::StepOptions options{.passes = 3, .alpha = 1, .plan = plan, .seed = 2};
      auto model = maker<Mlp>(dtype)();
      const Outcome whole_batch = run(*model, one, options);
      for (const auto& cut : {four, uneven}) {
        const Outcome outcome = run(*model, cut, options);
        CHECK(outcome.result.loss == doctest::Approx(whole_batch.result.loss).epsilon(tolerance));
        CHECK(distance(outcome.gradients, whole_batch.gradients) < tolerance);
      }
    }
  }
}

TEST_CASE("the valid mask counts units, and masked samples change nothing") {
  const Blobs blobs(12, DType::f64);
  auto model = maker<Mlp>(DType::f64)();
  const nn::StepOptions options{.passes = 2, .alpha = 1, .seed = 2};
  data::Batch masked = whole(blobs, 0, 12);
  std::vector<uint8_t> valid(12, 1);
  for (int i = 8; i < 12; ++i) valid[i] = 0;
  masked.valid = from_values(valid, {12}).to(DType::boolean);
  const Outcome a = run(*model, {masked}, options), b = run(*model, {whole(blobs, 0, 8)}, options);
  CHECK(a.result.units == 8);
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(1e-12));
  CHECK(distance(a.gradients, b.gradients) < 1e-12);
}
