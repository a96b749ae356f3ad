// The encoder-decoder: what it may see, what padding may not do, and equal gradients under every plan.
#include "models/transformer/transformer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/optim/adam.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;
using models::SequenceToSequence;
using models::Transformer;
using models::TransformerConfig;

namespace {

constexpr int64_t kPad = 0, kBos = 1;

const TransformerConfig kTiny{.vocab = 12,
                              .dim = 8,
                              .heads = 2,
                              .mlp_dim = 16,
                              .encoder_layers = 2,
                              .decoder_layers = 2,
                              .max_positions = 16,
                              .dropout = 0.3,
                              .attention_dropout = 0.2,
                              .activation_dropout = 0.1};

// Sentences of 1 to `longest` letters (ids from 2) whose translation is their reverse, padded to `source` and
// `target` positions.
data::Batch sentences(int64_t count, int64_t longest, int64_t source, int64_t target, uint64_t seed = 4,
                      int64_t vocab = 12) {
  std::vector<int64_t> from(count * source, kPad), in(count * target, kPad), out(count * target, kPad);
  const NoiseKey key = noise_key(seed, 0, 0, 0, Purpose::init);
  for (int64_t i = 0; i < count; ++i) {
    const auto length = 1 + static_cast<int64_t>(bounded(key, i, 0, longest));
    in[i * target] = kBos;
    for (int64_t t = 0; t < length; ++t) {
      const auto letter = 2 + static_cast<int64_t>(bounded(key, i, t + 1, vocab - 2));
      from[i * source + t] = letter;
      out[i * target + length - 1 - t] = letter;
      if (length - t < target) in[i * target + length - t] = letter;
    }
    if (length < target) in[i * target + length] = out[i * target + length - 1];
    for (int64_t t = length + 1; t < target; ++t) in[i * target + t] = kPad;
    if (length < target) out[i * target + length] = kBos;  // the end
  }
  return {{from_values(from, {count, source}), from_values(in, {count, target})},
          from_values(out, {count, target}),
          {},
          count};
}

Outcome run(const TransformerConfig& config, DType dtype, const std::vector<data::Batch>& batches,
            const nn::StepOptions& options) {
  return outcome_of<Transformer, SequenceToSequence>(dtype, batches, options, config);
}

TransformerConfig with(bool norm_first, models::Positions positions, int64_t target_vocab, bool tie) {
  TransformerConfig config = kTiny;
  config.norm_first = norm_first, config.positions = positions;
  config.target_vocab = target_vocab, config.tie_output = tie;
  return config;
}

TransformerConfig with_copy_and_more_noise() {
  TransformerConfig config = kTiny;
  config.copy = true, config.layer_drop = 0.3, config.word_dropout = 0.2;
  return config;
}

const std::vector<TransformerConfig> kVariants = {
    with_copy_and_more_noise(), with(false, models::Positions::sinusoidal, 0, true),
    with(true, models::Positions::learned, 0, false), with(false, models::Positions::learned, 13, true),
    with(true, models::Positions::sinusoidal, 13, false)};

Tensor logits_of(Transformer& model, const Tensor& source, const Tensor& target) {
  model.eval();
  NoGradGuard no_grad;
  return model.forward(source, target);
}

}  // namespace

TEST_CASE("an encoder-decoder with padding: all plans give the same gradients") {
  for (const TransformerConfig& config : kVariants) {
    for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 2e-5}}) {
      const std::vector<data::Batch> batches = {sentences(5, 5, 6, 7), sentences(3, 6, 8, 7, 5)};
      check_plans([&, dtype = dtype](const auto& options) { return run(config, dtype, batches, options); },
                  {.passes = 3, .alpha = 2, .label_smoothing = 0.1, .seed = 3, .step = 5}, tolerance, 1e-3);
    }
  }
}

TEST_CASE("padding changes no loss and no gradient, with the noise on") {
  const nn::StepOptions options{.passes = 2, .alpha = 2, .label_smoothing = 0.1, .seed = 3};
  for (const TransformerConfig& config : kVariants) {
    const Outcome tight = run(config, DType::f64, {sentences(6, 4, 4, 5)}, options);
    const Outcome padded = run(config, DType::f64, {sentences(6, 4, 11, 9)}, options);
    CHECK(tight.result.units == padded.result.units);
    CHECK(tight.result.kl > 1e-3);
    CHECK(padded.result.loss == doctest::Approx(tight.result.loss).epsilon(1e-12));
    CHECK(distance(padded.gradients, tight.gradients) < 1e-11);
  }
}

TEST_CASE("cut into micro-batches of other lengths, a step stays the same") {
  const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3};
  const data::Batch whole = sentences(6, 4, 5, 6);
  const auto part = [&](int64_t begin, int64_t end, int64_t source) {
    return data::Batch{{whole.inputs[0].slice(0, begin, end).slice(1, 0, source).contiguous(),
                        whole.inputs[1].slice(0, begin, end).contiguous()},
                       whole.target.slice(0, begin, end).contiguous(),
                       {},
                       end - begin};
  };
  const Outcome one = run(kTiny, DType::f64, {whole}, options);
  const Outcome two = run(kTiny, DType::f64, {part(0, 2, 4), part(2, 6, 5)}, options);
  CHECK(two.result.loss == doctest::Approx(one.result.loss).epsilon(1e-12));
  CHECK(distance(two.gradients, one.gradients) < 1e-11);
}

TEST_CASE("units are the target's tokens that are neither padding nor masked") {
  Transformer model(kTiny);
  const SequenceToSequence objective(model);
  data::Batch batch = sentences(4, 4, 6, 7);
  int64_t count = 0;
  for (int64_t id : batch.target.to_vector<int64_t>()) count += id != kPad;
  CHECK(objective.valid_units(batch) == count);
  CHECK(count < batch.target.numel());
  batch.valid = zeros(batch.target.shape(), {DType::boolean});
  CHECK(objective.valid_units(batch) == 0);
}

TEST_CASE("a position of the decoder sees itself and what is before, all of the source, and no padding") {
  for (const TransformerConfig& config : kVariants) {
    Transformer model(config);
    const Tensor source = from_values<int64_t>(std::vector<int64_t>{3, 4, 5, kPad}, {1, 4});
    const Tensor target = from_values<int64_t>(std::vector<int64_t>{kBos, 6, 7, 8}, {1, 4});
    const auto before = logits_of(model, source, target).to_vector<double>();
    const int64_t vocab = config.target_vocab > 0 ? config.target_vocab : config.vocab;
    const Tensor later = from_values<int64_t>(std::vector<int64_t>{kBos, 6, 9, 8}, {1, 4});
    const auto after = logits_of(model, source, later).to_vector<double>();
    for (int64_t t = 0; t < 4; ++t) {
      const bool same =
          std::equal(before.begin() + t * vocab, before.begin() + (t + 1) * vocab, after.begin() + t * vocab);
      CHECK(same == (t < 2));
    }
    const Tensor other = from_values<int64_t>(std::vector<int64_t>{3, 4, 6, kPad}, {1, 4});
    const auto moved = logits_of(model, other, target).to_vector<double>();
    for (int64_t t = 0; t < 4; ++t) CHECK(moved[t * vocab + 2] != before[t * vocab + 2]);
  }
}

TEST_CASE("positions are the paper's sinusoids") {
  struct Holder : nn::Module {
    models::TokenEmbedding embedding{*this, "e", 5, 4, {.max_positions = 6}};
  } holder;
  const auto p = holder.embedding.positions.to_vector<double>();
  CHECK(p[0] == doctest::Approx(0));
  CHECK(p[1] == doctest::Approx(1));
  CHECK(p[3 * 4] == doctest::Approx(std::sin(3.0)));
  CHECK(p[3 * 4 + 1] == doctest::Approx(std::cos(3.0)));
  CHECK(p[3 * 4 + 2] == doctest::Approx(std::sin(0.03)));
  CHECK(p[3 * 4 + 3] == doctest::Approx(std::cos(0.03)));
  CHECK(holder.state_dict().size() == 1);  // they are not learned, and not saved
}

TEST_CASE("encoder and decoder may have different dropout") {
  TransformerConfig config = kTiny;
  config.attention_dropout = config.activation_dropout = 0;
  config.dropout = 0, config.decoder_dropout = 0.5;
  Transformer model(config);
  const data::Batch batch = sentences(3, 4, 6, 7);
  PassContext context({.count = 2, .batch = 3});
  const Tensor memory = model.encode(batch.inputs[0]);
  CHECK(memory.passes() == 1);  // no noise yet: computed once
  CHECK(model.decode(batch.inputs[1], memory, batch.inputs[0]).passes() == 2);
}

TEST_CASE("a tiny Transformer learns to reverse") {
  nn::InitScope init({.seed = 3});
  TransformerConfig config{.vocab = 8,
                           .dim = 32,
                           .heads = 4,
                           .mlp_dim = 64,
                           .encoder_layers = 1,
                           .decoder_layers = 1,
                           .max_positions = 8,
                           .dropout = 0.05};
  Transformer model(config);
  SequenceToSequence objective(model);
  nn::AdamW optimizer(model.parameters(), {.lr = 5e-3});
  double last = 0;
  for (uint64_t step = 0; step < 250; ++step) {
    optimizer.zero_grad();
    const auto result = nn::accumulate_gradients(objective, {sentences(32, 4, 4, 5, step, 8)},
                                                 {.passes = 2, .alpha = 1, .seed = 1, .step = step});
    optimizer.step();
    last = result.accuracy;
    if (step == 0) CHECK(last < 0.4);
  }
  CHECK(last > 0.9);
}

TEST_CASE("presets have the sizes of their papers") {
  CHECK(models::transformer_preset("base").dim == 512);
  CHECK(models::transformer_preset("iwslt_de_en").mlp_dim == 1024);
  CHECK_THROWS_WITH_AS(models::transformer_preset("huge"), doctest::Contains("iwslt_de_en"), ConfigError);
  // d 512, ffn 1024, 6+6 layers, a joint tied vocabulary of 10,000, no final norms:
  // embedding 5.12e6; encoder layer 4(d^2 + d) + (2 d ffn + ffn + d) + 4 d; decoder layer 4(d^2 + d) + 2 d
  // more.
  const int64_t d = 512, f = 1024, attention = 4 * (d * d + d), mlp = 2 * d * f + f + d;
  models::TransformerConfig iwslt = models::transformer_preset("iwslt_de_en");
  CHECK(std::exchange(iwslt.encoder_layers, 1) == 6);
  CHECK(std::exchange(iwslt.decoder_layers, 1) == 6);
  CHECK(Transformer(iwslt).num_parameters() ==
        10000 * d + (attention + mlp + 4 * d) + (2 * attention + mlp + 6 * d));
}

TEST_CASE("what does not fit is said") {
  const auto bad = [](auto change) {
    TransformerConfig config = kTiny;
    change(config);
    return config;
  };
  CHECK_THROWS_WITH_AS(Transformer(bad([](auto& c) { c.heads = 3; })),
                       "transformer: heads 3 does not divide dim 8, expected 1, 2, 4 or 8", ConfigError);
  CHECK_THROWS_WITH_AS(Transformer(bad([](auto& c) { c.pad_id = 12; })), doctest::Contains("pad_id"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(Transformer(bad([](auto& c) { c.decoder_dropout = 1; })),
                       doctest::Contains("decoder_dropout"), ConfigError);
  CHECK_THROWS_AS(models::parse_positions("rotary"), ConfigError);
  Transformer model(kTiny);
  model.eval();
  CHECK_THROWS_WITH_AS(model.encode(zeros({2, 17}, {DType::i64})), doctest::Contains("16 positions"),
                       ShapeError);
  CHECK_THROWS_AS(model.encode(zeros({17}, {DType::i64})), ShapeError);
  CHECK_THROWS_AS(model.encode(full({2, 3}, 12, {DType::i64})), Error);
  SequenceToSequence objective(model);
  CHECK_THROWS_AS(objective.forward({{zeros({2, 3}, {DType::i64})}, {}, {}, 2}), ValueError);
}
