#include "models/transformer/transformer.h"

#include <map>

#include "ops/ops.h"

namespace tandem::models {
namespace {

const std::map<std::string, TransformerConfig>& presets() {
  static const std::map<std::string, TransformerConfig> table = {
      {"tiny", {.dim = 64, .heads = 2, .mlp_dim = 256, .encoder_layers = 1, .decoder_layers = 1}},
      {"small", {}},
      {"iwslt_de_en",
       {.vocab = 10000,
        .dim = 512,
        .heads = 4,
        .mlp_dim = 1024,
        .encoder_layers = 6,
        .decoder_layers = 6,
        .max_positions = 1024,
        .dropout = 0.3}},
      {"base",
       {.vocab = 37000,
        .dim = 512,
        .heads = 8,
        .mlp_dim = 2048,
        .encoder_layers = 6,
        .decoder_layers = 6,
        .max_positions = 1024,
        .dropout = 0.1}},
      {"big",
       {.vocab = 37000,
        .dim = 1024,
        .heads = 16,
        .mlp_dim = 4096,
        .encoder_layers = 6,
        .decoder_layers = 6,
        .max_positions = 1024,
        .dropout = 0.3}},
  };
  return table;
}

const TransformerConfig& checked(const TransformerConfig& c) {
  auto at_least = [](const char* name, int64_t value, int64_t low) {
    check<ConfigError>(value >= low, "transformer: {}: expected at least {}, got {}", name, low, value);
  };
  at_least("vocab", c.vocab, 1), at_least("target_vocab", c.target_vocab, 0), at_least("dim", c.dim, 1);
  at_least("heads", c.heads, 1), at_least("mlp_dim", c.mlp_dim, 1);
  at_least("encoder_layers", c.encoder_layers, 1), at_least("decoder_layers", c.decoder_layers, 1);
  at_least("max_positions", c.max_positions, 1);
  check<ConfigError>(c.dim % c.heads == 0, "transformer: heads {} do not divide dim {}", c.heads, c.dim);
  const int64_t smaller = c.target_vocab > 0 ? std::min(c.vocab, c.target_vocab) : c.vocab;
  check<ConfigError>(c.pad_id >= 0 && c.pad_id < smaller,
                     "transformer: pad_id: expected an id below {}, got {}", smaller, c.pad_id);
  auto rate = [](const char* name, double p) {
    check<ConfigError>(p >= 0 && p < 1, "transformer: {}: expected a rate in [0, 1), got {}", name, p);
  };
  rate("dropout", c.dropout), rate("decoder_dropout", c.decoder_dropout.value_or(0));
  rate("attention_dropout", c.attention_dropout), rate("activation_dropout", c.activation_dropout);
  return c;
}

}  // namespace

TransformerConfig transformer_preset(const std::string& name) {
  const auto found = presets().find(name);
  if (found != presets().end()) return found->second;
  std::string known;
  for (const auto& [key, config] : presets()) known += (known.empty() ? "" : ", ") + key;
  raise<ConfigError>("preset: expected one of {}, got '{}'", known, name);
}

std::vector<std::string> transformer_preset_names() {
  std::vector<std::string> names;
  for (const auto& [name, config] : presets()) names.push_back(name);
  return names;
}

Transformer::Transformer(const TransformerConfig& config)
    : config_(checked(config)),
      source_embedding_(*this, "source_embedding", config.vocab, config.dim, config.max_positions,
                        config.pad_id, config.positions),
      encoder_drop_(*this, "encoder_drop", config.dropout),
      decoder_drop_(*this, "decoder_drop", config.decoder_dropout.value_or(config.dropout)),
      encoder_(*this, "encoder"),
      decoder_(*this, "decoder") {
  const TransformerConfig& c = config_;
  if (c.target_vocab > 0) {
    target_embedding_.emplace(*this, "target_embedding", c.target_vocab, c.dim, c.max_positions, c.pad_id,
                              c.positions);
  }
  for (int64_t i = 0; i < c.encoder_layers; ++i) {
    encoder_.emplace_back(c.dim, c.heads, c.mlp_dim,
                          nn::TransformerEncoderLayerOptions{.dropout = c.dropout,
                                                             .attention_dropout = c.attention_dropout,
                                                             .activation_dropout = c.activation_dropout,
                                                             .activation = c.activation,
                                                             .norm_first = c.norm_first});
  }
  for (int64_t i = 0; i < c.decoder_layers; ++i) {
    decoder_.emplace_back(c.dim, c.heads, c.mlp_dim,
                          nn::TransformerDecoderLayerOptions{.dropout = c.decoder_dropout.value_or(c.dropout),
                                                             .attention_dropout = c.attention_dropout,
                                                             .activation_dropout = c.activation_dropout,
                                                             .activation = c.activation,
                                                             .norm_first = c.norm_first});
  }
  if (c.norm_first) {
    encoder_norm_.emplace(*this, "encoder_norm", c.dim);
    decoder_norm_.emplace(*this, "decoder_norm", c.dim);
  }
  if (!c.tie_output) output_.emplace(*this, "output", c.dim, c.target_vocab > 0 ? c.target_vocab : c.vocab);
}

Tensor Transformer::encode(const Tensor& source) {
  const Tensor padding = eq(source, static_cast<double>(config_.pad_id));
  Tensor x = encoder_drop_(source_embedding_(source));
  for (auto& layer : encoder_) x = layer(x, padding);
  return encoder_norm_ ? (*encoder_norm_)(x) : x;
}

Tensor Transformer::decode(const Tensor& target, const Tensor& memory, const Tensor& source) {
  const Tensor padding = eq(source, static_cast<double>(config_.pad_id));
  Tensor x = decoder_drop_(target_embedding()(target));
  for (auto& layer : decoder_) x = layer(x, memory, padding);
  return decoder_norm_ ? (*decoder_norm_)(x) : x;
}

Tensor Transformer::output_weight() const {
  if (output_) return output_->weight;
  return (target_embedding_ ? *target_embedding_ : source_embedding_).tokens.weight;
}

Tensor Transformer::output_bias() const { return output_ ? output_->bias : Tensor(); }

Tensor Transformer::logits(const Tensor& hidden) { return linear(hidden, output_weight(), output_bias()); }

namespace {

// True where a unit of the target counts.
Tensor counted(const data::Batch& batch, int64_t pad_id) {
  const Tensor real = ne(batch.target, static_cast<double>(pad_id));
  return batch.valid.defined() ? logical_and(real, batch.valid) : real;
}

}  // namespace

Tensor SequenceToSequence::forward(const data::Batch& batch) {
  check<ValueError>(batch.inputs.size() == 2, "transformer: expected the inputs source and target, got {}",
                    batch.inputs.size());
  const Tensor &source = batch.inputs[0], &target = batch.inputs[1];
  return nn::to_compute(model_.decode(target, model_.encode(source), source));
}

LossParts SequenceToSequence::loss(const Tensor& hidden, const data::Batch& batch,
                                   const RDropOptions& options, int passes) {
  return linear_rdrop_cross_entropy(hidden, model_.output_weight(), model_.output_bias(), batch.target,
                                    options, counted(batch, model_.config().pad_id), passes);
}

int64_t SequenceToSequence::valid_units(const data::Batch& batch) const {
  data::Batch units;
  units.target = batch.target;
  units.valid = counted(batch, model_.config().pad_id);
  return nn::Objective::valid_units(units);
}

}  // namespace tandem::models
