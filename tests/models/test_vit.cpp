// The bundled image models: they learn, their sizes are the published ones, their noise is where it belongs.
#include "models/vit/vit.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/pass_context.h"
#include "autograd/profiler.h"
#include "autograd/random.h"
#include "models/cnn/cnn.h"
#include "nn/data/image_dataset.h"
#include "nn/nn.h"
#include "nn/train/trainer.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using namespace tandem::nn;
using models::Cnn;
using models::Vit;
using models::VitConfig;

namespace {

// 8 x 8 images of noise over stripes one way, the other way, a chessboard or nothing: the class.
data::ImageSet patterns(int64_t count, uint64_t seed) {
  data::ImageSet set{count, 1, 8, 8, {}, {}, {"rows", "columns", "chess", "flat"}};
  const NoiseKey key = noise_key(seed, 0, 0, 0, Purpose::init);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = i % 4;
    set.labels.push_back(label);
    for (int64_t y = 0; y < 8; ++y)
      for (int64_t x = 0; x < 8; ++x) {
        const int64_t values[] = {y, x, x + y, 0};
        set.pixels.push_back(
            static_cast<uint8_t>(bounded(key, i, y * 8 + x, 160) + 90 * (values[label] % 2)));
      }
  }
  return set;
}

const VitConfig kTiny{.image_size = 8,
                      .classes = 4,
                      .patch_size = 4,
                      .dim = 16,
                      .depth = 2,
                      .heads = 2,
                      .mlp_dim = 32,
                      .dropout = 0.1,
                      .attention_dropout = 0.1};

template <class Model, class Config> void check_learns(const Config& config, int64_t epochs) {
  const data::ImageDataset train(patterns(160, 1)), valid(patterns(80, 2), train.normalization());
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)));
    const InitScope scope{{.seed = 3}};
    Model model(config);
    AdamW optimizer(model.parameters(), {.lr = 1e-2});
    Trainer trainer(
        model, optimizer,
        {.passes = 2, .alpha = 1, .plan = plan, .epochs = epochs, .batch_size = 32, .progress = false});
    const FitResult result = trainer.fit(train, valid);
    CHECK(result.train.front().ce > 0.3);
    CHECK(result.train.front().kl > 0);
    CHECK(result.best().accuracy > 0.9);  // guessing: 0.25
  }
}

// The parameters of a deep model, from those of one and two blocks: all blocks are alike.
int64_t count_parameters(VitConfig config) {
  const int64_t depth = config.depth;
  config.depth = 1;
  const int64_t one = Vit(config).num_parameters();
  config.depth = 2;
  return one + (depth - 1) * (Vit(config).num_parameters() - one);
}

data::Batch some_images(int64_t count) {
  const data::ImageDataset set(patterns(count, 4));
  return set.batch(set.ordered_batches(count)[0], {});
}

// Bytes that a forward of `passes` passes moves in an op.
int64_t forward_bytes(Vit& model, const Tensor& images, int passes, const std::string& op) {
  const Profiler profiler;
  const PassContext context({.seed = 1, .count = passes});
  model.forward(images);
  REQUIRE(profiler.rows().count(op) == 1);
  return profiler.rows().at(op).bytes;
}

}  // namespace

TEST_CASE("vit: learns with R-Drop under every plan") { check_learns<Vit>(kTiny, 6); }

TEST_CASE("cnn: learns with R-Drop under every plan") {
  check_learns<Cnn>(models::CnnConfig{.image_size = 8, .classes = 4, .width = 4, .dropout = 0.2}, 6);
}

TEST_CASE("vit: the presets have the published numbers of parameters") {
  CHECK(count_parameters(models::vit_preset("s16")) == 22'050'664);
  CHECK(count_parameters(models::vit_preset("b32")) == 88'224'232);
  CHECK(count_parameters(models::vit_preset("b16")) == 86'567'656);
  Vit tiny(models::vit_preset("tiny"));
  CHECK(tiny.num_parameters() == count_parameters(models::vit_preset("tiny")));
  CHECK(tiny.num_parameters() / 1000 == 139);
  const auto names = models::vit_preset_names();
  for (const char* name : {"tiny", "small", "s16", "b16", "b32"})
    CHECK(std::find(names.begin(), names.end(), name) != names.end());
  for (const std::string& name : names) CHECK(models::vit_preset(name).dim > 0);
  CHECK(message_of<ConfigError>([] { models::vit_preset("huge"); }) ==
        "preset: expected one of b16, b32, s16, small, tiny, got 'huge'");
}

TEST_CASE("vit: a head that starts at 0 gives the uniform distribution and a KL of 0 at step 0 only") {
  VitConfig config = kTiny;
  config.zero_head = true;
  Vit model(config);
  Classification<Vit> objective(model);
  const data::Batch batch = some_images(8);
  const StepResult start = accumulate_gradients(objective, {batch}, {.passes = 3, .alpha = 5});
  CHECK(start.kl == 0);
  CHECK(start.ce == doctest::Approx(std::log(4)).epsilon(1e-6));
  AdamW(model.parameters(), {.lr = 1e-2}).step();
  CHECK(accumulate_gradients(objective, {batch}, {.passes = 3, .alpha = 5, .step = 1}).kl > 0);
  Vit other(kTiny);
  Classification<Vit> noisy(other);
  CHECK(accumulate_gradients(noisy, {batch}, {.passes = 3, .alpha = 5}).kl > 0);
}

TEST_CASE("vit: blocks below dropout_from run once for all passes") {
  constexpr int64_t kBatch = 3, kTokens = 5, kDim = 16, kPasses = 4, kDepth = 3;
  const Tensor images = some_images(kBatch).inputs[0];
  // What one more pass adds to the layer norms that see it, f32 in and out.
  const int64_t block_norm = 2 * kBatch * kTokens * kDim * 4, final_norm = 2 * kBatch * kDim * 4;
  // And to the linear layers; within block `from` the projections of query, key and value are shared.
  const int64_t projection = 2 * kBatch * kTokens * kDim * 4, mlp = 2 * kBatch * kTokens * (kDim + 32) * 4,
                head = kBatch * (kDim + 4) * 4;
  for (int64_t from = 0; from <= kDepth; ++from) {
    INFO("dropout_from ", from);
    VitConfig config = kTiny;
    config.depth = kDepth;
    config.dropout_from = from;
    config.pooling = models::Pooling::mean;  // reads all tokens of the last block, too
    Vit model(config);
    const auto extra = [&](const std::string& op) {
      return forward_bytes(model, images, kPasses, op) - forward_bytes(model, images, 1, op);
    };
    // The first noise is the embedding's, or within block `from`, after its first norm.
    const int64_t norms = from == 0 ? 2 * kDepth : from < kDepth ? 2 * (kDepth - from) - 1 : 0;
    CHECK(extra("layer_norm") == (kPasses - 1) * (norms * block_norm + (from < kDepth ? final_norm : 0)));
    const int64_t after = from < kDepth ? kDepth - from - (from > 0) : 0;  // blocks that see passes apart
    const int64_t rest = from < kDepth ? 1 : 0;                            // the head, and block `from`
    CHECK(extra("linear") == (kPasses - 1) * (after * (4 * projection + mlp) +
                                              (from > 0) * rest * (projection + mlp) + rest * head));
    CHECK(extra("cat") == 0);  // of patches and class token
    const PassContext context({.seed = 1, .count = kPasses});
    CHECK(model.forward(images).passes() == (from < kDepth ? kPasses : 1));
  }
}

// A hook sees all tokens of the last block.
TEST_CASE("vit: what the head does not read of the last block is not computed, and nothing else changes") {
  for (const bool distillation : {false, true}) {
    VitConfig config = kTiny;
    config.distillation = distillation;
    config.registers = distillation ? 0 : 2;
    config.drop_path = 0.3;
    const InitScope scope{{.seed = 3, .dtype = DType::f64}};
    Vit model(config);
    std::vector<Tensors> seen;
    for (const HiddenHook& hook : {HiddenHook(), HiddenHook([](int64_t, const Tensor& x) { return x; })}) {
      const PassContext context({.seed = 5, .count = 3, .rates = {0.1, 0.4, 0}});
      const Tensor logits = model.forward(some_images(4).inputs[0].to(DType::f64), hook);
      seen.push_back(grad(sum(square(logits.passes_as_batch())), model.parameters()));
      seen.back().push_back(logits);
    }
    for (size_t i = 0; i < seen[0].size(); ++i) CHECK(difference(seen[0][i], seen[1][i], 1) < 1e-12);
  }
}

TEST_CASE("vit: with blocks shared by the passes, all plans still give the same gradients") {
  VitConfig config = kTiny;
  config.depth = 3;
  const data::Batch images = some_images(6);
  const data::Batch batch{{images.inputs[0].to(DType::f64)}, images.target, {}, 6};
  for (const int64_t from : {1, 2, 3}) {
    INFO("dropout_from ", from);
    config.dropout_from = from;
    std::vector<Tensors> gradients;
    std::vector<StepResult> results;
    for (const Plan plan : {Plan::sequential, Plan::stacked, Plan::replay}) {
      const InitScope scope{{.seed = 3, .dtype = DType::f64}};
      Vit model(config);
      Classification<Vit> objective(model);
      results.push_back(accumulate_gradients(objective, {batch}, {.passes = 3, .alpha = 2, .plan = plan}));
      gradients.emplace_back();
      for (const Tensor& p : model.parameters()) gradients.back().push_back(p.grad());
    }
    CHECK((results[0].kl > 1e-6) == (from < 3));
    for (int plan : {1, 2}) {
      CHECK(results[plan].loss == doctest::Approx(results[0].loss).epsilon(1e-12));
      for (size_t i = 0; i < gradients[0].size(); ++i)
        CHECK(difference(gradients[plan][i], gradients[0][i], 1) < 1e-12);
    }
  }
}

TEST_CASE("vit: sizes and rates that do not fit are ConfigErrors naming the option and its value") {
  const auto message = [](auto change) {
    VitConfig config = kTiny;
    change(config);
    return message_of<ConfigError>([&] { Vit model(config); });
  };
  using C = VitConfig;
  CHECK(message([](C& c) { c.patch_size = 3; }) ==
        "vit: patch_size 3 does not divide image_size 8, expected 1, 2, 4 or 8");
  CHECK(message([](C& c) { c.heads = 3; }) == "vit: heads 3 does not divide dim 16, expected 1, 2, 4 or 8");
  CHECK(message([](C& c) { c.image_size = 0; }) == "vit: image_size: expected at least 1, got 0");
  CHECK(message([](C& c) { c.channels = -1; }) == "vit: channels: expected at least 1, got -1");
  CHECK(message([](C& c) { c.classes = 0; }) == "vit: classes: expected at least 1, got 0");
  CHECK(message([](C& c) { c.patch_size = 0; }) == "vit: patch_size: expected at least 1, got 0");
  CHECK(message([](C& c) { c.dim = 0; }) == "vit: dim: expected at least 1, got 0");
  CHECK(message([](C& c) { c.depth = 0; }) == "vit: depth: expected at least 1, got 0");
  CHECK(message([](C& c) { c.heads = 0; }) == "vit: heads: expected at least 1, got 0");
  CHECK(message([](C& c) { c.mlp_dim = 0; }) == "vit: mlp_dim: expected at least 1, got 0");
  CHECK(message([](C& c) { c.dropout = 1; }) == "vit: dropout: expected a rate in [0, 1), got 1");
  CHECK(message([](C& c) { c.attention_dropout = -0.5; }) ==
        "vit: attention_dropout: expected a rate in [0, 1), got -0.5");
  CHECK(message([](C& c) { c.drop_path = 2; }) == "vit: drop_path: expected a rate in [0, 1), got 2");
  CHECK(message([](C& c) { c.dropout_from = 3; }) == "vit: dropout_from: expected 0 to depth 2, got 3");
  CHECK(message([](C& c) { c.dropout_from = -1; }) == "vit: dropout_from: expected 0 to depth 2, got -1");
}

TEST_CASE("cnn: sizes and rates that do not fit are ConfigErrors naming the option and its value") {
  const auto message = [](models::CnnConfig config) {
    return message_of<ConfigError>([&] { Cnn model(config); });
  };
  CHECK(message({.image_size = 10}) == "cnn: image_size: expected a multiple of 4, got 10");
  CHECK(message({.image_size = 0}) == "cnn: image_size: expected at least 1, got 0");
  CHECK(message({.channels = 0}) == "cnn: channels: expected at least 1, got 0");
  CHECK(message({.classes = -2}) == "cnn: classes: expected at least 1, got -2");
  CHECK(message({.width = 0}) == "cnn: width: expected at least 1, got 0");
  CHECK(message({.dropout = 1}) == "cnn: dropout: expected a rate in [0, 1), got 1");
}

TEST_CASE("vit and cnn: images of another shape are ShapeErrors that tell both shapes") {
  Vit vit(kTiny);
  Cnn cnn({.image_size = 8, .classes = 4, .width = 4});
  vit.eval(), cnn.eval();
  for (const Shape& shape : {Shape{2, 1, 8, 4}, Shape{2, 1, 4, 8}, Shape{2, 3, 8, 8}, Shape{2, 8, 8}}) {
    const std::string tail = "expected images [B,1,8,8], got f32" + to_string(shape);
    CHECK(message_of<ShapeError>([&] { vit.forward(zeros(shape)); }) == "vit: " + tail);
    CHECK(message_of<ShapeError>([&] { cnn.forward(zeros(shape)); }) == "cnn: " + tail);
  }
  CHECK(vit.forward(zeros({2, 1, 8, 8})).shape() == Shape{2, 4});
  CHECK(cnn.forward(zeros({2, 1, 8, 8})).shape() == Shape{2, 4});
}

TEST_CASE("attention rollout: of uniform attention, what its formula says") {
  for (const bool pre_norm : {false, true}) {
    VitConfig config = kTiny;
    config.depth = 3, config.pre_norm = pre_norm;
    Vit model(config);
    {
      const NoGradGuard no_grad;  // queries of zero see all keys alike
      for (const auto& [name, parameter] : model.named_parameters())
        if (name.find("q_proj") != std::string::npos) Tensor(parameter).zero_();
    }
    const Tensor images = tandem::rand({2, 1, 8, 8}, {.seed = 5});
    // Half of each token stays, half is spread over all 5: after 3 blocks 1/8 has not moved.
    const Tensor seen = attention_rollout(model, images);
    CHECK(seen.shape() == Shape{2, 2, 2});
    CHECK(difference(seen, full({2, 2, 2}, (1 - 1.0 / 8) / 5)) < 1e-6);
    CHECK(model.is_training());
    config.pooling =
        models::Pooling::mean;  // a patch keeps 1/8 of itself, which is 1/32 of the patches' mean
    Vit mean(config);
    mean.load_state_dict(model.state_dict());
    CHECK(difference(attention_rollout(mean, images), full({2, 2, 2}, (1 - 1.0 / 8) / 5 + 1.0 / 32)) < 1e-6);
  }
}

TEST_CASE("attention rollout: the blocks' own attention, multiplied in their order") {
  VitConfig config = kTiny;
  config.registers = 2, config.pre_norm = true;
  const InitScope scope{{.seed = 11}};
  Vit model(config);
  const NoGradGuard no_grad;
  for (const Tensor& parameter : model.parameters()) Tensor(parameter).mul_(4);  // far from uniform
  model.eval();
  const Tensor images = tandem::rand({2, 1, 8, 8}, {.seed = 5});
  const Tensors blocks = model.attention(images);
  REQUIRE(blocks.size() == 2);
  for (const Tensor& block : blocks) {
    CHECK(block.shape() == Shape{2, 2, 7, 7});  // 1 class token, 2 registers, 4 patches
    CHECK(difference(block.sum({3}), ones({2, 2, 7})) < 1e-5);
  }
  CHECK(difference(blocks[0], full({2, 2, 7, 7}, 1.0 / 7)) > 0.05);
  // Its output is what the probabilities make of the values.
  const Tensor first = (blocks[0].mean({1}) + eye(7)) / 2, second = (blocks[1].mean({1}) + eye(7)) / 2;
  const Tensor expected = matmul(second, first).select(1, 0).slice(1, 3, 7).reshape({2, 2, 2});
  CHECK(difference(attention_rollout(model, images), expected) < 1e-6);
  CHECK(difference(matmul(first, second).select(1, 0).slice(1, 3, 7).reshape({2, 2, 2}), expected) > 1e-4);
}
