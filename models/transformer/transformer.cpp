#include "models/transformer/transformer.h"

#include <cmath>

#include "models/presets.h"
#include "models/transformer/padding.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

// Of 6 + 6 layers.
TransformerConfig large(int64_t vocab, int64_t dim, int64_t heads, int64_t mlp_dim, double dropout) {
  return {.vocab = vocab,
          .dim = dim,
          .heads = heads,
          .mlp_dim = mlp_dim,
          .encoder_layers = 6,
          .decoder_layers = 6,
          .max_positions = 1024,
          .dropout = dropout};
}

const Presets<TransformerConfig>& presets() {
  static const Presets<TransformerConfig> table = {
      {"tiny", {.dim = 64, .heads = 2, .mlp_dim = 256, .encoder_layers = 1, .decoder_layers = 1}},
      {"small", {}},
      {"iwslt_de_en", large(10000, 512, 4, 1024, 0.3)},
      {"base", large(37000, 512, 8, 2048, 0.1)},
      {"big", large(37000, 1024, 16, 4096, 0.3)},
  };
  return table;
}

const TransformerConfig& checked(const TransformerConfig& c) {
  const ConfigCheck config{"transformer"};
  config.of_text(c);
  config.at_least_1({{"encoder_layers", c.encoder_layers}, {"decoder_layers", c.decoder_layers}});
  check<ConfigError>(c.target_vocab >= 0, "transformer: target_vocab: expected at least 0, got {}",
                     c.target_vocab);
  check<ConfigError>(!c.copy || c.target_vocab == 0,
                     "transformer: copy: expected one vocabulary for both sides, got a target_vocab of {}",
                     c.target_vocab);
  check<ConfigError>(!c.separate_positions || (c.target_vocab == 0 && c.positions == Positions::learned),
                     "transformer: separate_positions: expected learned positions, and one vocabulary");
  check<ConfigError>(!c.logits_bias || c.tie_output, "transformer: logits_bias: expected a tied output");
  config.pad_id(c.pad_id, c.target_vocab > 0 ? std::min(c.vocab, c.target_vocab) : c.vocab);
  config.rates(
      {{"decoder_dropout", c.decoder_dropout.value_or(0)}, {"activation_dropout", c.activation_dropout}});
  return c;
}

TokenEmbeddingOptions embedding_options(const TransformerConfig& c) {
  return {.max_positions = c.max_positions,
          .pad_id = c.pad_id,
          .positions = c.positions,
          .word_dropout = c.word_dropout,
          .scale = c.scale_embedding,
          .position_offset = c.position_offset,
          .norm = c.embedding_norm,
          .norm_eps = c.norm_eps};
}

}  // namespace

TransformerConfig transformer_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> transformer_preset_names() { return preset_names(presets()); }

Transformer::Transformer(const TransformerConfig& config)
    : config_(checked(config)),
      source_embedding_(*this, "source_embedding", config.vocab, config.dim, embedding_options(config)),
      encoder_drop_(*this, "encoder_drop", config.dropout),
      decoder_drop_(*this, "decoder_drop", config.decoder_dropout.value_or(config.dropout)),
      layer_drop_(*this, "layer_drop", config.layer_drop),
      encoder_(*this, "encoder"),
      decoder_(*this, "decoder") {
  const TransformerConfig& c = config_;
  if (c.target_vocab > 0 || c.separate_positions) {
    target_embedding_.emplace(*this, "target_embedding", c.target_vocab > 0 ? c.target_vocab : c.vocab, c.dim,
                              embedding_options(c));
  }
  if (c.separate_positions) nn::tie(target_embedding_->tokens.weight, source_embedding_.tokens.weight);
  const auto options = layer_options<nn::TransformerEncoderLayerOptions>(c);
  for (int64_t i = 0; i < c.encoder_layers; ++i) encoder_.emplace_back(c.dim, c.heads, c.mlp_dim, options);
  auto decoder_options = layer_options<nn::TransformerDecoderLayerOptions>(c);
  decoder_options.dropout = c.decoder_dropout.value_or(c.dropout);
  for (int64_t i = 0; i < c.decoder_layers; ++i)
    decoder_.emplace_back(c.dim, c.heads, c.mlp_dim, decoder_options);
  if (c.norm_first || c.final_norm) {
    encoder_norm_.emplace(*this, "encoder_norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
    decoder_norm_.emplace(*this, "decoder_norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
  }
  if (c.logits_bias)
    logits_bias_ = register_buffer(
        "logits_bias", zeros({c.vocab}, {nn::InitScope::current().dtype, nn::InitScope::current().device}));
  if (c.copy) {
    copy_query_.emplace(*this, "copy_query", c.dim, c.dim);
    copy_key_.emplace(*this, "copy_key", c.dim, c.dim);
    copy_gate_.emplace(*this, "copy_gate", c.dim, 1);
  }
  if (!c.tie_output) output_.emplace(*this, "output", c.dim, c.target_vocab > 0 ? c.target_vocab : c.vocab);
}

Tensor Transformer::padding(const Tensor& ids) const { return eq(ids, static_cast<double>(config_.pad_id)); }

Tensor Transformer::encode(const Tensor& source) { return run_encoder(source, padding(source), {}); }

Tensor Transformer::run_encoder(const Tensor& source, const Tensor& ignored, const PackedRows& rows) {
  const PackedScope scope(rows);
  Tensor x = encoder_drop_(source_embedding_(packed(source, rows)));
  for (auto& layer : encoder_) x = layer_drop_(x, [&](const Tensor& y) { return layer(y, ignored); });
  return encoder_norm_ ? (*encoder_norm_)(x, nn::compute_dtype(x.dtype())) : x;  // products alone read it
}

Tensor Transformer::decode(const Tensor& target, const Tensor& memory, const Tensor& source) {
  return run_decoder(target, memory, padding(source), {}, {});
}

Tensor Transformer::run_decoder(const Tensor& target, const Tensor& memory, const Tensor& ignored,
                                const PackedRows& rows, const PackedRows& memory_rows) {
  const PackedScope scope(rows, memory_rows);
  Tensor x = decoder_drop_(target_embedding()(packed(target, rows)));
  for (auto& layer : decoder_) x = layer_drop_(x, [&](const Tensor& y) { return layer(y, memory, ignored); });
  return decoder_norm_ ? (*decoder_norm_)(x) : x;
}

Transformer::Hidden Transformer::hidden_where(const Tensor& wanted, const Tensor& source,
                                              const Tensor& target) {
  const Tensor empty = padding(source);
  const auto rows = without_padding({{!empty}, {wanted, true}});
  const Tensor ignored = padding_within(empty, rows[0]);
  const Tensor memory = run_encoder(source, ignored, rows[0]);
  const Tensor hidden = run_decoder(target, memory, ignored, rows[1], rows[0]);
  return {config_.copy ? padded(memory, rows[0]) : Tensor(), padded(hidden, rows[1])};
}

Tensor Transformer::copy_logits(const Tensor& hidden, const Tensor& keys, const Tensor& source) {
  const double scale = 1 / std::sqrt(static_cast<double>(config_.dim));
  const Tensor scores = matmul((*copy_query_)(hidden), keys.transpose(1, 2)) * scale;  // [B, T, S]
  const Tensor gate = sigmoid((*copy_gate_)(hidden));                                  // [B, T, 1]
  const Tensor copied = softmax(masked_fill(scores, padding(source).unsqueeze(1), -1e9), -1) * (1 - gate);
  const Tensor written = softmax(logits(hidden), -1) * gate;
  const Tensor words = scatter_add(written, -1, source.unsqueeze(1).expand(copied.shape()), copied);
  return log(words + 1e-9);  // no word is impossible
}

Tensor Transformer::forward(const Tensor& source, const Tensor& target) {
  const Tensor memory = encode(source), hidden = decode(target, memory, source);
  return config_.copy ? copy_logits(hidden, copy_keys(memory), source) : logits(hidden);
}

Transformer::State Transformer::begin(const Tensor& source) {
  const Tensor memory = encode(source);
  State state{.past = std::vector<nn::KeyValueCache>(decoder_.size()),
              .memory = {},
              .source = source,
              .padding = padding(source),
              .copy_keys = config_.copy ? copy_keys(memory) : Tensor()};
  for (auto& layer : decoder_) state.memory.push_back(layer.cross_attn.project(memory));
  return state;
}

Tensor Transformer::step(State& state, const Tensor& ids) {
  Tensor x = target_embedding()(ids.unsqueeze(1), state.position++);
  for (size_t i = 0; i < decoder_.size(); ++i)
    x = decoder_[i].step(x, state.past[i], state.memory[i], state.padding);
  if (decoder_norm_) x = (*decoder_norm_)(x);
  return (config_.copy ? copy_logits(x, state.copy_keys, state.source) : logits(x)).squeeze(1);
}

void Transformer::select(State& state, const Tensor& rows) {
  for (nn::KeyValueCache& past : state.past) past.select(rows);
  for (nn::KeyValues& memory : state.memory) memory = nn::select(memory, rows);
  for (Tensor* part : {&state.source, &state.padding, &state.copy_keys})
    if (part->defined()) *part = index_select(*part, 0, rows);
}

void Transformer::copy_targets(State& state, const Tensor& from, const Tensor& to) {
  for (nn::KeyValueCache& past : state.past) past.copy_rows(from, to);
}

Tensor Transformer::output_weight() const {
  if (output_) return output_->weight;
  return (target_embedding_ ? *target_embedding_ : source_embedding_).tokens.weight;
}

Tensor Transformer::output_bias() const { return output_ ? Tensor(output_->bias) : logits_bias_; }

Tensor Transformer::logits(const Tensor& hidden) { return linear(hidden, output_weight(), output_bias()); }

Tensor SequenceToSequence::forward(const data::Batch& batch) {
  check<ValueError>(batch.inputs.size() == 2, "transformer: expected the inputs source and target, got {}",
                    batch.inputs.size());
  const Tensor &source = batch.inputs[0], &target = batch.inputs[1];
  const Transformer::Hidden hidden = model_.hidden_where(counted(batch), source, target);
  return model_.config().copy ? model_.copy_logits(hidden.target, model_.copy_keys(hidden.memory), source)
                              : nn::to_compute(hidden.target);
}

LossParts SequenceToSequence::loss(const Tensor& hidden, const data::Batch& batch,
                                   const RDropOptions& options, int passes) {
  const Tensor valid = counted(batch);
  if (model_.config().copy) return rdrop_cross_entropy(hidden, batch.target, options, valid, passes);
  return linear_rdrop_cross_entropy(hidden, model_.output_weight(), model_.output_bias(), batch.target,
                                    options, valid, passes);
}

}  // namespace tandem::models
