#include "models/transformer/text_encoder.h"

#include "autograd/grad_mode.h"
#include "models/presets.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

const Presets<TextEncoderConfig>& presets() {
  static const Presets<TextEncoderConfig> table = {
      {"tiny", {.dim = 64, .heads = 2, .mlp_dim = 256, .layers = 1}},
      {"small", {}},
      {"bert_base",
       {.vocab = 30522,
        .dim = 768,
        .heads = 12,
        .mlp_dim = 3072,
        .layers = 12,
        .max_positions = 512,
        .attention_dropout = 0.1}},
  };
  return table;
}

const TextEncoderConfig& checked(const TextEncoderConfig& c) {
  const ConfigCheck config{"text encoder"};
  config.of_text(c);
  config.at_least_1({{"segments", c.segments}, {"outputs", c.outputs}, {"layers", c.layers}});
  config.pad_id(c.pad_id, c.vocab);
  check<ConfigError>(!c.bi_encoder || c.outputs == 1, "text encoder: a bi-encoder has outputs 1, got {}",
                     c.outputs);
  return c;
}

}  // namespace

TextEncoderConfig text_encoder_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> text_encoder_preset_names() { return preset_names(presets()); }

TextEncoder::TextEncoder(const TextEncoderConfig& config)
    : config_(checked(config)),
      words_(*this, "words", config.vocab, config.dim, config.pad_id),
      word_drop_(*this, "word_drop", config.word_dropout),
      positions_(
          register_parameter("positions", {config.max_positions, config.dim}, nn::init::normal(0, 0.02))),
      segments_(*this, "segments", config.segments, config.dim),
      norm_(*this, "norm", config.dim, {.eps = config.norm_eps}),
      drop_(*this, "drop", config.dropout),
      layer_drop_(*this, "layer_drop", config.layer_drop),
      layers_(*this, "layers"),
      pooler_(*this, "pooler", config.dim, config.dim),
      head_drop_(*this, "head_drop", config.dropout),
      head_(*this, "head", config.dim, config.outputs) {
  const TextEncoderConfig& c = config_;
  for (int64_t i = 0; i < c.layers; ++i) {
    layers_.emplace_back(c.dim, c.heads, c.mlp_dim,
                         nn::TransformerEncoderLayerOptions{.dropout = c.dropout,
                                                            .attention_dropout = c.attention_dropout,
                                                            .norm_first = c.norm_first,
                                                            .norm_eps = c.norm_eps});
  }
  if (c.norm_first) last_norm_.emplace(*this, "last_norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
  words_.initialize("weight", nn::init::normal(0, 0.02));
  segments_.initialize("weight", nn::init::normal(0, 0.02));
  const NoGradGuard no_grad;
  words_.weight.select(0, c.pad_id).zero_();
}

Tensor TextEncoder::hidden(const Tensor& ids, const Tensor& segments, const HiddenHook& hook) {
  check<ShapeError>(ids.dim() == 2 && ids.size(1) >= 1, "TextEncoder: expected ids [B, T], got {}",
                    describe(ids));
  check<ShapeError>(ids.size(1) <= config_.max_positions,
                    "TextEncoder: {} tokens, the model has {} positions", ids.size(1), config_.max_positions);
  const auto at = [&](int64_t level, const Tensor& x) { return hook ? hook(level, x) : x; };
  const Tensor padding = eq(ids, static_cast<double>(config_.pad_id));
  const Tensor kind = segments.defined() ? segments_(segments) : segments_.weight.select(0, 0);
  const Tensor words = word_drop_(words_(ids), zeros({1}, {words_.weight.dtype(), ids.device()}));
  Tensor x = drop_(at(0, norm_(words + positions_.slice(0, 0, ids.size(1)) + kind)));
  int64_t level = 0;
  for (auto& layer : layers_)
    x = at(++level, layer_drop_(x, [&](const Tensor& y) { return layer(y, padding); }));
  return last_norm_ ? (*last_norm_)(x) : x;
}

Tensor TextEncoder::pooled(const Tensor& ids, const Tensor& segments, const HiddenHook& hook) {
  const Tensor tokens = hidden(ids, segments, hook);
  if (config_.pooling == Pooling::cls) return tanh(pooler_(tokens.select(1, 0)));
  const Tensor words = ne(ids, static_cast<double>(config_.pad_id)).to(tokens.dtype()).unsqueeze(2);
  return tanh(pooler_((tokens * words).sum({1}) / words.sum({1})));
}

Tensor TextEncoder::forward(const Tensor& ids, const Tensor& segments) {
  check<ConfigError>(!config_.bi_encoder, "text encoder: a bi-encoder compares two texts, see similarity()");
  return head(pooled(ids, segments));
}

Tensor TextEncoder::forward(const data::Batch& batch) {
  const Tensor &first = batch.inputs[0], &second = batch.inputs[1];
  return config_.bi_encoder ? similarity(first, second) : forward(first, second);
}

Tensor TextEncoder::similarity(const Tensor& first, const Tensor& second) {
  const Tensor a = pooled(first), b = pooled(second);
  return (a * b).sum({1}, true) / sqrt(square(a).sum({1}, true) * square(b).sum({1}, true));
}

Tensor TextEncoder::head(const Tensor& pooled) { return head_(head_drop_(pooled)); }

nn::Hookable hookable(TextEncoder& model) {
  return {model, model.config().layers + 1,
          [&model](const data::Batch& batch, const HiddenHook& hook) {
            return model.pooled(batch.inputs[0], batch.inputs[1], hook);
          },
          [&model](const Tensor& pooled) { return model.head(pooled); }};
}

}  // namespace tandem::models
