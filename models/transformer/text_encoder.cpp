#include "models/transformer/text_encoder.h"

#include "autograd/grad_mode.h"
#include "models/presets.h"
#include "models/transformer/padding.h"
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
  check<ConfigError>(c.dropout_from >= 0 && c.dropout_from <= c.layers,
                     "text encoder: dropout_from: expected 0 to the {} layers, got {}", c.layers,
                     c.dropout_from);
  check<ConfigError>(!c.bi_encoder || c.outputs == 1, "text encoder: a bi-encoder has outputs 1, got {}",
                     c.outputs);
  return c;
}

// Bool [T]: true at 0.
Tensor first_position(const Tensor& ids) {
  return arange(0, static_cast<double>(ids.size(1)), 1, {DType::i64, ids.device()}) == 0;
}

// Of x [B, T, dim] the vectors of the first positions, [B, 1, dim]; of packed ones, which have them, [B,
// dim].
Tensor at_first(const Tensor& x, const PackedRows& rows) {
  if (!rows.defined()) return x.slice(1, 0, 1);
  std::vector<int64_t> first;
  for (int64_t i = 0; i < rows.samples(); ++i) first.push_back(rows[i].first_row);
  return index_select(x, 0, from_values(first, {rows.samples()}));
}
PackedRows first_of(const PackedRows& rows) {
  if (!rows.defined()) return {};
  return {std::vector<PackedRows::Range>(rows.samples(), {0, 1}), rows.positions()};
}

}  // namespace

TextEncoderConfig text_encoder_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> text_encoder_preset_names() { return preset_names(presets()); }

TextEncoder::TextEncoder(const TextEncoderConfig& config)
    : config_(checked(config)),
      words_(*this, "words", config.vocab, config.dim, config.pad_id),
      word_drop_(*this, "word_drop", config.dropout_from == 0 ? config.word_dropout : 0),
      positions_(register_parameter("positions", {config.position_offset + config.max_positions, config.dim},
                                    nn::init::normal(0, 0.02))),
      segments_(*this, "segments", config.segments, config.dim),
      norm_(*this, "norm", config.dim, {.eps = config.norm_eps}),
      drop_(*this, "drop", config.dropout_from == 0 ? config.dropout : 0),
      layer_drop_(*this, "layer_drop", config.layer_drop),
      layers_(*this, "layers"),
      pooler_(config.pooler == Pooler::none
                  ? std::optional<nn::Linear>()
                  : std::optional<nn::Linear>(std::in_place, *this, "pooler", config.dim, config.dim)),
      pooler_drop_(*this, "pooler_drop", config.pooler_dropout),
      head_drop_(*this, "head_drop", config.head_dropout.value_or(config.dropout)),
      head_(*this, "head", config.dim, config.outputs) {
  const TextEncoderConfig& c = config_;
  for (int64_t i = 0; i < c.layers; ++i) {
    const bool noisy = i >= c.dropout_from;
    layers_.emplace_back(
        c.dim, c.heads, c.mlp_dim,
        nn::TransformerEncoderLayerOptions{.dropout = noisy ? c.dropout : 0,
                                           .attention_dropout = noisy ? c.attention_dropout : 0,
                                           .activation = c.activation,
                                           .norm_first = c.norm_first,
                                           .norm_eps = c.norm_eps});
  }
  if (c.norm_first) last_norm_.emplace(*this, "last_norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
  if (c.masked_lm_head) {
    word_dense_.emplace(*this, "word_dense", c.dim, c.dim);
    word_norm_.emplace(*this, "word_norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
    word_bias_ = register_parameter("word_bias", {c.vocab}, nn::init::zeros());
  }
  words_.initialize("weight", nn::init::normal(0, 0.02));
  segments_.initialize("weight", nn::init::normal(0, 0.02));
  const NoGradGuard no_grad;
  words_.weight.select(0, c.pad_id).zero_();
}

void TextEncoder::check_ids(const Tensor& ids) const {
  check<ShapeError>(ids.dim() == 2 && ids.size(1) >= 1, "TextEncoder: expected ids [B, T], got {}",
                    describe(ids));
  check<ShapeError>(ids.size(1) <= config_.max_positions,
                    "TextEncoder: {} tokens, the model has {} positions", ids.size(1), config_.max_positions);
}

Tensor TextEncoder::hidden(const Tensor& ids, const Tensor& segments, const HiddenHook& hook,
                           const Tensor& key_padding_mask) {
  check_ids(ids);
  const Tensor padding = key_padding_mask.defined() ? key_padding_mask : ids == config_.pad_id;
  return run(ids, segments, hook, padding, {});
}

Tensor TextEncoder::hidden_where(const Tensor& wanted, const Tensor& ids, const Tensor& segments) {
  check_ids(ids);
  const Tensor words = ids != config_.pad_id;
  const PackedRows rows = without_padding({{logical_or(words, wanted)}})[0];
  return padded(run(ids, segments, {}, !words, rows), rows);
}

Tensor TextEncoder::run(const Tensor& ids, const Tensor& segments, const HiddenHook& hook,
                        const Tensor& padding, const PackedRows& rows, bool first_alone) {
  const auto at = [&](int64_t level, const Tensor& x) { return hook ? hook(level, x) : x; };
  const PackedScope scope(rows);
  Tensor positions;
  if (const int64_t offset = config_.position_offset; offset > 0) {
    const Tensor words = (ids != config_.pad_id).to(DType::i64);
    positions = embedding(positions_, packed(cumsum(words, 1) * words + (offset - 1), rows), offset - 1);
  } else {
    positions =
        rows.defined() ? embedding(positions_, positions_of(rows)) : positions_.slice(0, 0, ids.size(1));
  }
  const Tensor kind = segments.defined() ? segments_(packed(segments, rows)) : segments_.weight.select(0, 0);
  const Tensor words =
      word_drop_(words_(packed(ids, rows)), zeros({1}, {words_.weight.dtype(), ids.device()}));
  const Tensor ignored = padding_within(padding, rows);
  Tensor x = drop_(at(0, norm_(words + positions + kind)));
  int64_t level = 0;
  for (auto& layer : layers_) {
    // The last layer computes what is read.
    const bool first = first_alone && level + 1 == std::ssize(layers_);
    const PackedScope of_layer(first ? first_of(rows) : rows, first ? rows : PackedRows());
    const Tensor all = x;
    if (first) x = at_first(x, rows);
    const auto run = [&](const Tensor& y) { return first ? layer(y, all, ignored) : layer(y, ignored); };
    x = at(level + 1, level < config_.dropout_from ? run(x) : layer_drop_(x, run));
    ++level;
  }
  if (last_norm_) x = (*last_norm_)(x);
  return first_alone ? x.reshape({ids.size(0), config_.dim}) : x;
}

Tensor TextEncoder::pooled(const Tensor& ids, const Tensor& segments, const HiddenHook& hook,
                           const Tensor& key_padding_mask) {
  check_ids(ids);
  const Tensor counted = key_padding_mask.defined() ? !key_padding_mask : ids != config_.pad_id;
  const bool first = config_.pooling == Pooling::cls;
  PackedRows rows;  // hooks want the vectors of all positions; a device has all
  if (!hook && ids.device() == kCpu)
    rows = without_padding({{first ? logical_or(counted, first_position(ids)) : counted}})[0];
  Tensor x = run(ids, segments, hook, !counted, rows, first && !hook);
  if (first && hook) x = x.select(1, 0);
  if (!first) {
    const Tensor tokens = padded(x, rows);
    const Tensor words = counted.to(tokens.dtype()).unsqueeze(2);
    x = (tokens * words).sum({1}) / words.sum({1});
  }
  if (!pooler_) return x;
  x = (*pooler_)(pooler_drop_(x));
  return config_.pooler == Pooler::tanh ? tanh(x) : relu(x);
}

Tensor TextEncoder::masked_lm_hidden(const Tensor& hidden) {
  return word_dense_ ? (*word_norm_)((*word_dense_)(hidden, config_.activation)) : hidden;
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
