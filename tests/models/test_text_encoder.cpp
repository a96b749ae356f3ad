// The text encoder: golden values, equal gradients under every plan, what padding may not do, learning.
#include "models/transformer/text_encoder.h"

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/optim/adam.h"
#include "tests/golden.h"
#include "tests/nn/train/outcome.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using models::TextEncoder;
using models::TextEncoderConfig;
using TextClassification = nn::Classification<TextEncoder>;
using TextRegression = nn::Regression<TextEncoder>;

namespace {

constexpr int64_t kPad = 0, kBos = 2, kEos = 3, kFirst = 5;

const TextEncoderConfig kTiny{.vocab = 12,
                              .outputs = 3,
                              .dim = 8,
                              .heads = 2,
                              .mlp_dim = 16,
                              .max_positions = 16,
                              .dropout = 0.3,
                              .attention_dropout = 0.2};

TextEncoderConfig with(bool norm_first, double layer_drop, double word_dropout) {
  TextEncoderConfig config = kTiny;
  config.norm_first = norm_first, config.layer_drop = layer_drop, config.word_dropout = word_dropout;
  return config;
}

TextEncoderConfig mean_pooled(bool bi_encoder) {
  TextEncoderConfig config = kTiny;
  config.pooling = models::Pooling::mean, config.bi_encoder = bi_encoder;
  return config;
}

const std::vector<TextEncoderConfig> kVariants = {kTiny, with(true, 0, 0), with(false, 0.4, 0.3),
                                                  mean_pooled(false)};

// Pairs of texts of 1 to 3 letters each, padded to `width`: bos, letters, eos, letters, eos. The label says
// how the number of times that the first letter of all occurs relates to 1 (1 or more: 0 to 2).
data::Batch texts(int64_t count, int64_t width, uint64_t seed = 4, int64_t vocab = 12, bool scores = false) {
  std::vector<int64_t> ids(count * width, kPad), segments(count * width, 0), labels(count, 0);
  const NoiseKey key = noise_key(seed, 0, 0, 0, Purpose::init);
  for (int64_t i = 0; i < count; ++i) {
    int64_t t = 0;
    const auto add = [&](int64_t id, int64_t segment) {
      ids[i * width + t] = id, segments[i * width + t++] = segment;
      labels[i] = std::min<int64_t>(2, labels[i] + (id == kFirst));
    };
    add(kBos, 0);
    for (int64_t part = 0; part < 2; ++part) {
      const auto length = 1 + static_cast<int64_t>(bounded(key, i, 10 * part, 3));
      for (int64_t k = 0; k < length; ++k)
        add(kFirst + static_cast<int64_t>(bounded(key, i, 10 * part + k + 1, vocab - kFirst)), part);
      add(kEos, part);
    }
  }
  Tensor target = from_values(labels, {count});
  if (scores) target = target.to(DType::f32) * 0.75;
  return {{from_values(ids, {count, width}), from_values(segments, {count, width})}, target, {}, count};
}

// A step as a function of (dtype, batches, options).
using Step = std::function<Outcome(DType, const std::vector<data::Batch>&, const nn::StepOptions&)>;

Step classify(const TextEncoderConfig& config) {
  return [config](DType dtype, const auto& batches, const auto& options) {
    return outcome_of<TextEncoder, TextClassification>(dtype, batches, options, config);
  };
}

Step regress(TextEncoderConfig config) {
  config.outputs = 1;
  return [config](DType dtype, const auto& batches, const auto& options) {
    return outcome_of<TextEncoder, TextRegression>(dtype, batches, options, config);
  };
}

void check_all_plans(const Step& step, const std::vector<data::Batch>& batches) {
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 2e-5}}) {
    for (const uint64_t number : {0, 1, 2}) {
      check_plans([&, dtype = dtype](const auto& options) { return step(dtype, batches, options); },
                  {.passes = 3, .alpha = 2, .label_smoothing = 0.1, .seed = 3, .step = number}, tolerance);
    }
  }
}

}  // namespace

TEST_CASE("text encoder: golden values with padding, post-norm and pre-norm") {
  const nn::InitScope scope{{.dtype = DType::f64}};
  int seen = 0;
  for (const Json& test : golden("encoder.json")) {
    if (test["model"] != "TextEncoder") continue;
    const Json& c = test["config"];
    INFO(c.dump());
    TextEncoder model({.vocab = c["vocab"],
                       .segments = c["segments"],
                       .outputs = c["outputs"],
                       .dim = c["dim"],
                       .heads = c["heads"],
                       .mlp_dim = c["mlp_dim"],
                       .layers = c["layers_"],
                       .max_positions = c["max_positions"],
                       .dropout = 0,
                       .norm_eps = c["norm_eps"],
                       .norm_first = c["norm_first"]});
    nn::StateDict state;
    for (const auto& [name, value] : test["parameters"].items())
      state.push_back({name, golden_tensor(value)});
    model.load_state_dict(state);
    const Tensor ids = golden_tensor(test["ids"]), segments = golden_tensor(test["segments"]);
    CHECK(difference(model.hidden(ids, segments), golden_tensor(test["hidden"])) < 1e-10);
    CHECK(difference(model.forward(ids, segments), golden_tensor(test["output"])) < 1e-10);

    const data::Batch batch{{ids, segments}, golden_tensor(test["target"]), {}, ids.size(0)};
    TextClassification classification(model);
    TextRegression regression(model);
    nn::Objective* objective = &classification;
    if (c["outputs"] == 1) objective = &regression;
    const Tensor loss = objective->loss(objective->forward(batch), batch, {}, 1).loss;
    CHECK(difference(loss, golden_tensor(test["loss"])) < 1e-10);
    loss.backward();
    double scale = 0;  // of all gradients: some true ones are 0
    for (const auto& [name, value] : test["grads"].items())
      for (const double v : value["data"]) scale = std::max(scale, std::abs(v));
    REQUIRE(model.named_parameters().size() == test["grads"].size());
    for (const nn::NamedTensor& p : model.named_parameters()) {
      INFO(p.name);
      CHECK(difference(p.tensor.grad(), golden_tensor(test["grads"][p.name]), scale) < 1e-10);
    }
    ++seen;
  }
  CHECK(seen == 2);
}

TEST_CASE("text encoder: all plans give the same gradients, with padding and every kind of noise") {
  for (const TextEncoderConfig& config : kVariants)
    check_all_plans(classify(config), {texts(5, 10), texts(3, 11, 5)});
  check_all_plans(regress(kVariants[2]), {texts(5, 10, 4, 12, true)});
}

TEST_CASE("text encoder: padding changes no loss and no gradient, with the noise on") {
  for (const TextEncoderConfig& config : kVariants) {
    for (const uint64_t number : {0, 1, 2}) {
      const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3, .step = number};
      const Outcome tight = classify(config)(DType::f64, {texts(6, 9)}, options);
      const Outcome padded = classify(config)(DType::f64, {texts(6, 15)}, options);
      CHECK(tight.result.kl > 1e-4);
      check_same(padded, tight, 1e-11);
    }
  }
}

TEST_CASE("text encoder: a step is the same however it is cut into micro-batches") {
  for (const TextEncoderConfig& config : kVariants) {
    const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3, .step = 1};
    const data::Batch all = texts(6, 9);
    const auto part = [&](int64_t begin, int64_t end) {
      const auto cut = [&](const Tensor& x) { return x.slice(0, begin, end).contiguous(); };
      return data::Batch{{cut(all.inputs[0]), cut(all.inputs[1])}, cut(all.target), {}, end - begin};
    };
    const Outcome one = classify(config)(DType::f64, {all}, options);
    check_same(classify(config)(DType::f64, {part(0, 1), part(1, 6)}, options), one, 1e-11);
  }
}

TEST_CASE("text encoder: one thread and two give the same step to rounding") {
  const auto [one, two] = with_one_and_two_threads([] {
    return classify(kVariants[2])(DType::f32, {texts(8, 10)}, {.passes = 2, .alpha = 2, .seed = 3});
  });
  check_same(two, one, 2e-5);
}

TEST_CASE("text encoder: hooks see every level once and may change it") {
  const nn::InitScope init({.seed = 7, .dtype = DType::f64});
  TextEncoder model(kVariants[2]);
  const data::Batch batch = texts(3, 9);
  const Tensor &ids = batch.inputs[0], &segments = batch.inputs[1];
  model.eval();
  std::vector<int64_t> levels;
  const Tensor plain = model.forward(ids, segments);
  const Tensor same = model.head(model.pooled(ids, segments, [&](int64_t level, const Tensor& x) {
    levels.push_back(level);
    CHECK(x.shape() == Shape({3, 9, 8}));
    return x;
  }));
  CHECK(levels == std::vector<int64_t>{0, 1, 2});
  CHECK(difference(same, plain) == 0);
  const Tensor last =
      model.pooled(ids, segments, [&](int64_t level, const Tensor& x) { return level == 2 ? x * 0 : x; });
  for (int64_t row : {0, 1}) CHECK(difference(last.select(0, row), last.select(0, 2)) == 0);
  // No segments are segments of 0.
  const Tensor zero = zeros(ids.shape(), {DType::i64});
  CHECK(difference(model.forward(ids), model.forward(ids, zero)) < 1e-14);
  CHECK(difference(model.forward(ids), plain) > 1e-6);
}

namespace {

// Two texts of different widths a sample, each by itself.
data::Batch separate(int64_t count, int64_t width, int64_t other_width) {
  data::Batch batch = texts(count, width, 4, 12, true);
  batch.inputs[1] = texts(count, other_width, 9).inputs[0];
  return batch;
}

}  // namespace

TEST_CASE("text encoder: a bi-encoder gives the cosine of two means, and padding does not enter") {
  const nn::InitScope init({.seed = 7, .dtype = DType::f64});
  TextEncoderConfig config = mean_pooled(true);
  CHECK_THROWS_WITH_AS(TextEncoder{config}, doctest::Contains("outputs 1, got 3"), ConfigError);
  config.outputs = 1;
  TextEncoder model(config);
  model.eval();
  const data::Batch batch = separate(3, 12, 10);
  CHECK_THROWS_WITH_AS(model.forward(batch.inputs[0]), doctest::Contains("similarity()"), ConfigError);
  const Tensor out = model.similarity(batch.inputs[0], batch.inputs[1]);
  CHECK(out.shape() == Shape({3, 1}));
  const auto a = model.pooled(batch.inputs[0]).to_vector<double>(),
             b = model.pooled(batch.inputs[1]).to_vector<double>();
  for (int64_t i = 0; i < 3; ++i) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t d = 8 * i; d < 8 * i + 8; ++d) ab += a[d] * b[d], aa += a[d] * a[d], bb += b[d] * b[d];
    CHECK(out.to_vector<double>()[i] == doctest::Approx(ab / std::sqrt(aa * bb)).epsilon(1e-12));
  }
  // A text's mean is over its own tokens: alone, without the padding of its batch.
  const auto ids = batch.inputs[0].to_vector<int64_t>();
  const int64_t length = std::find(ids.begin(), ids.begin() + 12, kPad) - ids.begin();
  REQUIRE(length < 12);
  const Tensor alone = batch.inputs[0].slice(0, 0, 1).slice(1, 0, length).contiguous();
  CHECK(difference(model.pooled(alone), model.pooled(batch.inputs[0]).slice(0, 0, 1)) < 1e-12);

  check_all_plans(regress(config), {separate(5, 10, 9), separate(3, 11, 12)});
  const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3, .step = 1};
  check_same(regress(config)(DType::f64, {separate(6, 14, 16)}, options),
             regress(config)(DType::f64, {separate(6, 9, 9)}, options), 1e-11);
}

TEST_CASE("text encoder: evaluation has no noise") {
  TextEncoder model(kVariants[2]);
  const data::Batch batch = texts(3, 9);
  model.eval();
  const NoGradGuard no_grad;
  const Tensor outside = model.forward(batch.inputs[0], batch.inputs[1]);  // and needs no context
  const PassContext context({.seed = 1, .count = 3, .batch = 3});
  const Tensor inside = model.forward(batch.inputs[0], batch.inputs[1]);
  CHECK(inside.passes() == 1);
  CHECK(difference(inside, outside) == 0);
}

TEST_CASE("text encoder: a tiny one learns to count and to score") {
  for (const bool scores : {false, true}) {
    const nn::InitScope init({.seed = 3});
    TextEncoderConfig config{.vocab = 8,
                             .outputs = scores ? 1 : 3,
                             .dim = 32,
                             .heads = 4,
                             .mlp_dim = 64,
                             .layers = 1,
                             .max_positions = 9,
                             .dropout = 0.05};
    TextEncoder model(config);
    TextClassification classification(model);
    TextRegression regression(model);
    nn::Objective* objective = &classification;
    if (scores) objective = &regression;
    nn::AdamW optimizer(model.parameters(), {.lr = 5e-3});
    nn::StepResult first, last;
    for (uint64_t step = 0; step < 200; ++step) {
      optimizer.zero_grad();
      last = nn::accumulate_gradients(*objective, {texts(32, 9, step, 8, scores)},
                                      {.passes = 2, .alpha = 1, .seed = 1, .step = step});
      optimizer.step();
      if (step == 0) first = last;
    }
    INFO("from ", first.ce, " to ", last.ce);
    CHECK(last.ce < 0.2 * first.ce);
    if (!scores) CHECK(last.accuracy > 0.9);
  }
}

TEST_CASE("text encoder: presets have the sizes of their papers") {
  CHECK(models::text_encoder_preset("small").dim == 128);
  TextEncoderConfig base = models::text_encoder_preset("bert_base");
  CHECK(base.norm_eps == 1e-12);
  // Devlin et al. say 110M; this is the exact count of the released model with its pooler, and the head's,
  // less 11 of its 12 layers.
  CHECK(std::exchange(base.layers, 1) == 12);
  CHECK(TextEncoder(base).num_parameters() == 109482240 - 11 * 7'087'872 + 768 * 2 + 2);
}

TEST_CASE("text encoder: what does not fit is said") {
  const auto bad = [](auto change) {
    TextEncoderConfig config = kTiny;
    change(config);
    return config;
  };
  CHECK_THROWS_WITH_AS(TextEncoder(bad([](auto& c) { c.heads = 3; })),
                       "text encoder: heads 3 does not divide dim 8, expected 1, 2, 4 or 8", ConfigError);
  CHECK_THROWS_WITH_AS(TextEncoder(bad([](auto& c) { c.pad_id = 12; })), doctest::Contains("pad_id"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(TextEncoder(bad([](auto& c) { c.outputs = 0; })), doctest::Contains("outputs"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(TextEncoder(bad([](auto& c) { c.layer_drop = 1; })), doctest::Contains("layer_drop"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(TextEncoder(bad([](auto& c) { c.word_dropout = -0.1; })),
                       doctest::Contains("word_dropout"), ConfigError);
  CHECK_THROWS_WITH_AS(models::text_encoder_preset("huge"), doctest::Contains("bert_base"), ConfigError);
  TextEncoder model(kTiny);
  model.eval();
  const auto ids = [](const Shape& shape, double id = 5) { return full(shape, id, {DType::i64}); };
  CHECK_THROWS_WITH_AS(model.forward(ids({2, 17})), doctest::Contains("16 positions"), ShapeError);
  CHECK_THROWS_AS(model.forward(ids({4})), ShapeError);
  CHECK_THROWS_AS(model.forward(ids({2, 0})), ShapeError);
  CHECK_THROWS_AS(model.forward(ids({2, 3}, 12)), ValueError);
  CHECK_THROWS_AS(model.forward(ids({2, 3}), ids({2, 3}, 2)), ValueError);
  CHECK_THROWS_AS(model.forward(ids({2, 3}), ids({2, 4}, 0)), ShapeError);
}
