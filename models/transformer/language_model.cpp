#include "models/transformer/language_model.h"

#include "models/presets.h"
#include "models/transformer/padding.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

const Presets<LanguageModelConfig>& presets() {
  static const Presets<LanguageModelConfig> table = {
      {"tiny", {.dim = 64, .heads = 2, .mlp_dim = 256, .layers = 1}},
      {"small", {}},
      {"gpt",
       {.vocab = 40000,
        .dim = 768,
        .heads = 12,
        .mlp_dim = 3072,
        .layers = 12,
        .max_positions = 512,
        .attention_dropout = 0.1}},
      {"adaptive",
       {.vocab = 267744,
        .dim = 1024,
        .heads = 8,
        .mlp_dim = 4096,
        .layers = 16,
        .max_positions = 3072,
        .positions = Positions::sinusoidal,
        .dropout = 0.3,
        .attention_dropout = 0.1,
        .activation_dropout = 0.1,
        .activation = Activation::relu,
        .cutoffs = {20000, 60000}}},
  };
  return table;
}

const LanguageModelConfig& checked(const LanguageModelConfig& c) {
  const ConfigCheck config{"language model"};
  config.of_text(c);
  config.at_least_1({{"layers", c.layers}});
  config.pad_id(c.pad_id, c.vocab, -1);
  check<ConfigError>(c.tie_output || c.cutoffs.empty(),
                     "language model: tie_output: an adaptive softmax is the embedding's");
  config.rates({{"activation_dropout", c.activation_dropout}});
  return c;
}

}  // namespace

LanguageModelConfig language_model_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> language_model_preset_names() { return preset_names(presets()); }

LanguageModel::LanguageModel(const LanguageModelConfig& config)
    : config_(checked(config)),
      embedding_(*this, "embedding", config.vocab, config.dim,
                 {.max_positions = config.max_positions,
                  .pad_id = config.pad_id,
                  .positions = config.positions,
                  .word_dropout = config.word_dropout,
                  .cutoffs = config.cutoffs,
                  .factor = config.factor,
                  .scale = config.scale_embedding}),
      drop_(*this, "drop", config.dropout),
      layer_drop_(*this, "layer_drop", config.layer_drop),
      layers_(*this, "layers") {
  const LanguageModelConfig& c = config_;
  auto options = layer_options<nn::TransformerEncoderLayerOptions>(c);
  options.causal = true;
  for (int64_t i = 0; i < c.layers; ++i) layers_.emplace_back(c.dim, c.heads, c.mlp_dim, options);
  if (c.norm_first) norm_.emplace(*this, "norm", c.dim, nn::LayerNormOptions{.eps = c.norm_eps});
  if (!c.cutoffs.empty()) softmax_.emplace(*this, "softmax", embedding_.tokens);
  if (!c.tie_output) output_.emplace(*this, "output", c.dim, c.vocab, false);
}

Tensor LanguageModel::hidden(const Tensor& ids) { return run(ids, {}); }

Tensor LanguageModel::hidden_where(const Tensor& wanted, const Tensor& ids) {
  const PackedRows rows = without_padding({{wanted, true}})[0];
  return padded(run(ids, rows), rows);
}

Tensor LanguageModel::run(const Tensor& ids, const PackedRows& rows) {
  const PackedScope scope(rows);
  Tensor x = drop_(embedding_(packed(ids, rows)));
  for (auto& layer : layers_) x = layer_drop_(x, [&](const Tensor& y) { return layer(y); });
  return norm_ ? (*norm_)(x) : x;
}

Tensor LanguageModel::logits(const Tensor& hidden) {
  return softmax_ ? (*softmax_)(hidden) : linear(hidden, output_weight());
}

Tensor LanguageModel::step(State& state, const Tensor& ids) {
  Tensor x = embedding_(ids.dim() == 1 ? ids.unsqueeze(1) : ids, state.position);
  state.position += x.size(1);
  for (size_t i = 0; i < layers_.size(); ++i) x = layers_[i].step(x, state.past[i]);
  x = x.select(1, -1);
  return logits(norm_ ? (*norm_)(x) : x);
}

void LanguageModel::select(State& state, const Tensor& rows) {
  for (nn::KeyValueCache& past : state.past) past.select(rows);
}

Tensor LanguageModeling::forward(const data::Batch& batch) {
  const Tensor hidden = model_.hidden_where(counted(batch), batch.inputs[0]);
  // Log-probabilities stay in f32.
  return model_.config().cutoffs.empty() ? nn::to_compute(hidden) : hidden;
}

LossParts LanguageModeling::loss(const Tensor& hidden, const data::Batch& batch, const RDropOptions& options,
                                 int passes) {
  const Tensor valid = counted(batch);
  if (!model_.config().cutoffs.empty())
    return rdrop_cross_entropy(model_.logits(hidden), batch.target, options, valid, passes);
  return linear_rdrop_cross_entropy(hidden, model_.output_weight(), {}, batch.target, options, valid, passes);
}

}  // namespace tandem::models
