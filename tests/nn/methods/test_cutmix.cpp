// CutMix, the method of images.
#include <algorithm>

#include "models/vit/vit.h"
#include "nn/methods/methods.h"
#include "nn/train/plan.h"
#include "ops/ops.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::nn;
using namespace tandem::testing;

namespace {

data::Batch images(DType dtype = DType::f64) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 6; ++i) labels.push_back(i % 3);
  return {{normal({6, 2, 8, 8}, 5, dtype)}, from_values(labels, {6}), {}, 6};
}

const MethodOptions kChoices{.mixup_alpha = 1};

struct Trained {
  Trained() : scope({.seed = 3, .dtype = DType::f64}) {}
  StepResult run(const StepOptions& options, const std::string& method = "cutmix") {
    model.train(), model.zero_grad();
    return accumulate_gradients(*make_method(method, models::hookable(model), kChoices), {images()}, options);
  }
  InitScope scope;
  models::Vit model{{.image_size = 8,
                     .channels = 2,
                     .classes = 3,
                     .patch_size = 4,
                     .dim = 8,
                     .depth = 1,
                     .heads = 2,
                     .mlp_dim = 8,
                     .dropout = 0.1}};
};

}  // namespace

TEST_CASE("cutmix: a box of each image is its partner's, as large as lambda says") {
  const data::Batch batch = images();
  int empty = 0, whole = 0;
  double mean = 0;
  for (uint64_t step = 0; step < 400; ++step) {
    const CutMixing mixing = draw_cut_mixing({.seed = 1, .step = step, .batch = 6}, batch, 1, 8, 8);
    CHECK((mixing.top >= 0 && mixing.top <= mixing.bottom && mixing.bottom <= 8));
    CHECK((mixing.left >= 0 && mixing.left <= mixing.right && mixing.right <= 8));
    const int64_t area = (mixing.bottom - mixing.top) * (mixing.right - mixing.left);
    CHECK(mixing.lambda == doctest::Approx(1 - area / 64.0).epsilon(1e-12));
    empty += area == 0, whole += area == 64, mean += mixing.lambda / 400;
    if (step >= 20) continue;
    const Tensor mixed = mixing(batch.inputs[0]);
    const auto x = values(batch.inputs[0]), y = values(mixed);
    for (int64_t i = 0; i < 6; ++i)
      for (int64_t c = 0; c < 2; ++c)
        for (int64_t h = 0; h < 8; ++h)
          for (int64_t w = 0; w < 8; ++w) {
            const bool inside = h >= mixing.top && h < mixing.bottom && w >= mixing.left && w < mixing.right;
            const int64_t from = inside ? mixing.order[i] : i;
            CHECK(y[((i * 2 + c) * 8 + h) * 8 + w] == x[((from * 2 + c) * 8 + h) * 8 + w]);
          }
  }
  CHECK((empty > 0 && empty < 100));
  CHECK(whole < 20);
  CHECK((mean > 0.55 && mean < 0.8));
}

TEST_CASE("cutmix: the loss is that of both labels, by hand; all plans agree, with a KL term") {
  Trained trained;
  const StepOptions options{.passes = 2, .alpha = 1, .seed = 7, .step = 3};
  const data::Batch batch = images();
  const CutMixing mixing = draw_cut_mixing({.seed = 7, .step = 3, .count = 2, .batch = 6}, batch, 1, 8, 8);
  REQUIRE((mixing.lambda > 0.1 && mixing.lambda < 0.95));
  const StepResult result = trained.run(options);
  const auto gradients = flat_gradients(trained.model);
  CHECK(result.kl > 1e-6);
  for (const Plan plan : {Plan::sequential, Plan::replay}) {
    StepOptions other = options;
    other.plan = plan;
    CHECK(trained.run(other).loss == doctest::Approx(result.loss).epsilon(1e-12));
    CHECK(distance(flat_gradients(trained.model), gradients) < 1e-11);
  }
  const StepOptions single{.passes = 1, .alpha = 0, .seed = 7, .step = 3};
  const double mixed = trained.run(single).loss;
  double expected = 0;
  for (const bool partner : {false, true}) {
    data::Batch by_hand = batch;
    by_hand.inputs[0] = mixing(batch.inputs[0]);
    if (partner) by_hand.target = index_select(batch.target, 0, from_values(mixing.order, {6}));
    trained.model.zero_grad();
    expected +=
        (partner ? 1 - mixing.lambda : mixing.lambda) *
        accumulate_gradients(*make_method("plain", models::hookable(trained.model)), {by_hand}, single).loss;
  }
  CHECK(mixed == doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("cutmix: it is of images") {
  const auto net = [] {
    struct Flat : Module {
      Linear out{*this, "out", 4, 3};
    };
    return std::make_unique<Flat>();
  }();
  const Hookable hookable{
      *net, 1, [&](const data::Batch& batch, const HiddenHook&) { return net->out(batch.inputs[0]); },
      [](const Tensor& x) { return x; }};
  const data::Batch batch{{normal({6, 4}, 1)}, images().target, {}, 6};
  check_throws<ShapeError>("cutmix: expected images [B, C, H, W], got f32[6,4]", [&] {
    accumulate_gradients(*make_method("cutmix", hookable, kChoices), {batch}, {.passes = 1});
  });
  check_throws<ConfigError>("mixup_alpha", [&] { make_method("cutmix", hookable, {.mixup_alpha = 0}); });
}
