// The decoder-only Transformer language model with m-pass R-Drop.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/transformer/token_embedding.h"
#include "models/transformer/token_objective.h"

namespace tandem::models {

// The sizes and rates of a LanguageModel.
struct LanguageModelConfig {
  int64_t vocab = 4000;         // ids
  int64_t dim = 128;            // of a token's vector
  int64_t heads = 4;            // divides dim
  int64_t mlp_dim = 512;        // of the hidden layer of each feed-forward network
  int64_t layers = 2;           // of attention and feed-forward network
  int64_t max_positions = 256;  // of the longest text
  int64_t pad_id = 0;           // of padding, which does not count as a target; -1: there is none
  Positions positions = Positions::learned;  // how a token's place is known
  double dropout = 0.1;                      // after the embedding and at the end of each branch
  // As of a TransformerConfig.
  double attention_dropout = 0, activation_dropout = 0, layer_drop = 0, word_dropout = 0;
  Activation activation = Activation::gelu;  // of the feed-forward networks
  bool norm_first = true;                    // pre-norm, with a norm at the end; otherwise post-norm
  // Adaptive input and softmax (models/transformer/adaptive.h), for ids sorted by frequency; none: plain
  // ones.
  std::vector<int64_t> cutoffs = {};
  int64_t factor = 4;

  // What published models differ in.
  double norm_eps = 1e-5;       // eps of every LayerNorm
  bool scale_embedding = true;  // vectors of tokens are multiplied by sqrt(dim)
  bool tie_output = true;       // the output layer is the embedding; otherwise its own, without bias
};

// "tiny" (1 layer, d 64), "small" (2, d 128), "gpt" (12, d 768, ffn 3072, 12 heads: the paper's first model
// on WikiText-103), "adaptive" (16, d 1024, ffn 4096, 8 heads, cutoffs 20,000 and 60,000: its second, of
// Baevski and Auli). ConfigError for another name.
LanguageModelConfig language_model_preset(const std::string& name);
std::vector<std::string> language_model_preset_names();

// ShapeError for more tokens than positions.
class LanguageModel : public nn::Module {
 public:
  explicit LanguageModel(const LanguageModelConfig& config);  // ConfigError naming the option

  Tensor hidden(const Tensor& ids);  // ids i64 [B, T] to [B, T, dim]
  // The same where `wanted`, bool [B, T], is true: what comes after the last of them in a text may be left
  // out, and is 0 then.
  Tensor hidden_where(const Tensor& wanted, const Tensor& ids);
  Tensor logits(const Tensor& hidden);  // with cutoffs they are log-probabilities
  Tensor forward(const Tensor& ids) { return logits(hidden(ids)); }

  // Generation by steps, as of Transformer.
  struct State {
    std::vector<nn::KeyValueCache> past;  // of each layer
    int64_t position = 0;                 // of the next token
  };
  State begin() const { return {std::vector<nn::KeyValueCache>(layers_.size())}; }
  // Ids [B], or the first of a text [B, T], to the logits [B, vocab] of what follows.
  Tensor step(State& state, const Tensor& ids);
  static void select(State& state, const Tensor& rows);

  Tensor output_weight() const {
    return output_ ? output_->weight : embedding_.tokens.weight;
  }  // without cutoffs
  // As it was made.
  const LanguageModelConfig& config() const { return config_; }

 private:
  Tensor run(const Tensor& ids, const PackedRows& rows);  // with rows, of them alone: [rows, dim]

  LanguageModelConfig config_;
  TokenEmbedding embedding_;
  nn::Dropout drop_;
  nn::LayerDrop layer_drop_;
  nn::ModuleList<nn::TransformerEncoderLayer> layers_;
  std::optional<nn::LayerNorm> norm_;
  std::optional<AdaptiveSoftmax> softmax_;
  std::optional<nn::Linear> output_;
};

// Batch: inputs {ids [B, T]}, target [B, T] the tokens after them. The loss computes logits in chunks, never
// as a whole, except with an adaptive softmax.
class LanguageModeling final : public TokenObjective {
 public:
  explicit LanguageModeling(LanguageModel& model) : TokenObjective(model.config().pad_id), model_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override;
  LossParts loss(const Tensor& hidden, const data::Batch& batch, const RDropOptions& options,
                 int passes) override;

 private:
  LanguageModel& model_;
};

}  // namespace tandem::models
