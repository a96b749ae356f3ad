// The encoder-decoder Transformer of "Attention is all you need" (Vaswani et al. 2017, arXiv 1706.03762),
// with m-pass R-Drop through encoder, cross-attention and decoder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/transformer/token_embedding.h"
#include "models/transformer/token_objective.h"

namespace tandem::models {

// The sizes and rates of a Transformer.
struct TransformerConfig {
  int64_t vocab = 4000;                            // of the source, and of the target if target_vocab is 0
  int64_t target_vocab = 0;                        // 0: one vocabulary, and one embedding, for both sides
  int64_t dim = 128;                               // of a token's vector
  int64_t heads = 4;                               // divides dim
  int64_t mlp_dim = 512;                           // of the hidden layer of each feed-forward network
  int64_t encoder_layers = 2, decoder_layers = 2;  // of attention and feed-forward network
  int64_t max_positions = 256;                     // of the longest text of either side
  int64_t pad_id = 0;                              // of padding, which nothing attends to
  Positions positions = Positions::sinusoidal;     // of both sides
  double dropout = 0.1;                            // after embeddings and at the end of each branch
  std::optional<double> decoder_dropout = {};      // the decoder's, where it has its own
  double attention_dropout = 0;                    // on the attention probabilities
  double activation_dropout = 0;                   // inside of the feed-forward networks
  double layer_drop = 0;                           // LayerDrop, in both stacks
  double word_dropout = 0;                         // of source and target words
  Activation activation = Activation::relu;        // of the feed-forward networks
  bool norm_first = false;  // pre-norm, with a norm at the end of each stack; otherwise post-norm
  // Words of the source may be copied (See, Liu, Manning 2017, arXiv 1704.04368): an attention of its own
  // says which, a gate how often. Needs one vocabulary for both sides.
  bool copy = false;
  bool tie_output = true;  // the output layer is the target's embedding; otherwise its own, with a bias

  // What published models differ in.
  double norm_eps = 1e-5;           // eps of every LayerNorm
  bool scale_embedding = true;      // vectors of tokens are multiplied by sqrt(dim)
  bool embedding_norm = false;      // a norm after the positions are added, on each side
  bool separate_positions = false;  // the target has learned positions of its own, where the words are shared
  int64_t position_offset = 0;      // rows of learned positions that stand before the first token's
  bool final_norm = false;          // a norm at the end of each stack of post-norm layers, too
  bool logits_bias = false;         // a buffer [vocab] that is added to the logits where the output is tied
};

// "tiny" (1+1 layers, d 64), "small" (2+2, d 128), "iwslt_de_en" (6+6, d 512, ffn 1024, 4 heads: the
// paper's), "base", "big" (Vaswani et al., table 3): sizes and dropout. ConfigError for another name.
TransformerConfig transformer_preset(const std::string& name);
std::vector<std::string> transformer_preset_names();

class Transformer : public nn::Module {
 public:
  // ConfigError naming the option that does not fit.
  explicit Transformer(const TransformerConfig& config);

  // Ids i64 [B, S] to [B, S, dim]. Positions that hold pad_id are not attended to.
  Tensor encode(const Tensor& source);
  // The target so far, beginning with the begin-of-sentence id, and encode(source): ids [B, T] to [B, T,
  // dim]. Positions of the memory where source is padding are not attended to.
  Tensor decode(const Tensor& target, const Tensor& memory, const Tensor& source);
  // Both, for those who read some positions of the target alone: where `wanted`, bool [B, T], is true.
  // Padding, and what comes after the last of them in a target, may be left out, and is 0 then.
  struct Hidden {
    Tensor memory, target;  // [B, S, dim], undefined without config.copy; [B, T, dim]
  };
  Hidden hidden_where(const Tensor& wanted, const Tensor& source, const Tensor& target);
  // [..., dim] to logits [..., target vocabulary].
  Tensor logits(const Tensor& hidden);
  // With config.copy: log(g softmax(logits) + (1 - g) attention to the source's words), where g is the gate.
  // hidden [B, T, dim], copy_keys(memory) [B, S, dim] and source ids [B, S] to [B, T, vocabulary].
  Tensor copy_keys(const Tensor& memory) { return (*copy_key_)(memory); }
  Tensor copy_logits(const Tensor& hidden, const Tensor& keys, const Tensor& source);
  // Ids [B, S] and [B, T] to the logits (with config.copy those of copy_logits) [B, T, target vocabulary].
  Tensor forward(const Tensor& source, const Tensor& target);

  // Decoding by steps: what is kept of a batch of sources [B, S] and of the targets so far.
  struct State {
    std::vector<nn::KeyValueCache> past;  // the target's, of each decoder layer
    std::vector<nn::KeyValues> memory;    // the source's
    Tensor source, padding;               // i64 and bool [B, S]
    Tensor copy_keys;                     // [B, S, dim], with config.copy
    int64_t position = 0;                 // of the next target token
  };
  State begin(const Tensor& source);
  // Logits [B, target vocabulary] of what follows `ids` i64 [B], the next token of each row.
  Tensor step(State& state, const Tensor& ids);
  static void select(State& state, const Tensor& rows);  // keeps these rows, i64 [N], in this order
  // Rows `to` go on from the targets of the rows `from` of the same sources, i64 [N] each; no row is in both.
  static void copy_targets(State& state, const Tensor& from, const Tensor& to);

  Tensor output_weight() const;  // [target vocabulary, dim]
  Tensor output_bias() const;    // [target vocabulary], or undefined
  // As it was made.
  const TransformerConfig& config() const { return config_; }

 private:
  Tensor padding(const Tensor& ids) const;  // true where ids are pad_id
  // encode() and decode(); with rows, of and to packed ones: [rows, dim].
  Tensor run_encoder(const Tensor& source, const Tensor& ignored, const PackedRows& rows);
  Tensor run_decoder(const Tensor& target, const Tensor& memory, const Tensor& ignored,
                     const PackedRows& rows, const PackedRows& memory_rows);
  TokenEmbedding& target_embedding() { return target_embedding_ ? *target_embedding_ : source_embedding_; }

  TransformerConfig config_;
  TokenEmbedding source_embedding_;
  std::optional<TokenEmbedding> target_embedding_;  // where the vocabularies or the positions differ
  nn::Dropout encoder_drop_, decoder_drop_;
  nn::LayerDrop layer_drop_;
  nn::ModuleList<nn::TransformerEncoderLayer> encoder_;
  nn::ModuleList<nn::TransformerDecoderLayer> decoder_;
  std::optional<nn::LayerNorm> encoder_norm_, decoder_norm_;
  std::optional<nn::Linear> output_, copy_query_, copy_key_, copy_gate_;
  Tensor logits_bias_;
};

// Batch: inputs {source [B, S], target in [B, T]}, target [B, T], the same shifted by one. The loss computes
// logits in chunks, never as a whole, except with config.copy, which mixes probabilities.
class SequenceToSequence final : public TokenObjective {
 public:
  explicit SequenceToSequence(Transformer& model) : TokenObjective(model.config().pad_id), model_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override;
  LossParts loss(const Tensor& hidden, const data::Batch& batch, const RDropOptions& options,
                 int passes) override;

 private:
  Transformer& model_;
};

}  // namespace tandem::models
