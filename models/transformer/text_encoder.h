// The encoder of BERT (Devlin et al. 2019, arXiv 1810.04805) with a head for classification or regression of
// one text or a pair. Train it with nn::Classification or nn::Regression on batches of data::TextDataset.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "autograd/packed_rows.h"
#include "models/pooling.h"
#include "nn/layers.h"
#include "nn/methods/hidden_hook.h"

namespace tandem::models {

// What is done to a text's vector before the head: nothing, or a linear layer and its activation.
enum class Pooler { none, tanh, relu };

// The sizes and rates of a TextEncoder.
struct TextEncoderConfig {
  int64_t vocab = 4000;         // ids
  int64_t segments = 2;         // kinds of text: the first and the second of a pair
  int64_t outputs = 2;          // classes; 1 for regression
  int64_t dim = 128;            // of a token's vector
  int64_t heads = 4;            // divides dim
  int64_t mlp_dim = 512;        // of the hidden layer of each feed-forward network
  int64_t layers = 2;           // of attention and feed-forward network
  int64_t max_positions = 128;  // of the longest text
  int64_t pad_id = 0;           // of padding, which nothing attends to
  double dropout = 0.1;         // after the embedding, at the end of each branch and before the head
  // As of TransformerConfig.
  double attention_dropout = 0, layer_drop = 0, word_dropout = 0;
  double norm_eps = 1e-12;         // eps of every LayerNorm
  bool norm_first = false;         // pre-norm, with a norm at the end; otherwise post-norm, as BERT is
  Pooling pooling = Pooling::cls;  // what a text's vector is
  int64_t dropout_from = 0;        // as of VitConfig
  bool bi_encoder = false;         // reads two texts one by one and compares their vectors; outputs is 1

  // What published models differ in.
  Activation activation = Activation::gelu;  // of the feed-forward networks
  Pooler pooler = Pooler::tanh;
  double pooler_dropout = 0;                // before the pooler's layer
  std::optional<double> head_dropout = {};  // before the head, where it is another than `dropout`
  // Above 0: rows of positions before that of the first word. Positions are then those among the words, so
  // that padding at the front moves none (RoBERTa).
  int64_t position_offset = 0;
  // BERT's output layer of masked words has a linear layer, activation and norm before it, and a bias.
  bool masked_lm_head = false;
};

// "tiny" (1 layer, d 64), "small" (2, d 128), "bert_base" (12, d 768, ffn 3072, 12 heads, 30,522 pieces).
// ConfigError for another name.
TextEncoderConfig text_encoder_preset(const std::string& name);
std::vector<std::string> text_encoder_preset_names();

using nn::HiddenHook;

class TextEncoder : public nn::Module {
 public:
  explicit TextEncoder(const TextEncoderConfig& config);  // ConfigError naming the option

  // ids i64 [B, T], segments i64 [B, T] or undefined (all 0), to [B, T, dim]. Positions where
  // key_padding_mask, bool [B, T], is true are not attended to; without one, those that hold pad_id.
  // ShapeError for more than max_positions.
  Tensor hidden(const Tensor& ids, const Tensor& segments = {}, const HiddenHook& hook = {},
                const Tensor& key_padding_mask = {});
  // The same, of [B, T], for those who read some positions alone: where `wanted`, bool [B, T], is true.
  // Padding that is not wanted may be left out, and is 0 then.
  Tensor hidden_where(const Tensor& wanted, const Tensor& ids, const Tensor& segments = {});
  // tanh(dense(first token, or mean over the tokens that are not masked)), or as config.pooler says: [B,
  // dim].
  Tensor pooled(const Tensor& ids, const Tensor& segments = {}, const HiddenHook& hook = {},
                const Tensor& key_padding_mask = {});
  Tensor head(const Tensor& pooled);  // dropout and a linear layer: [B, outputs]
  // head(pooled(ids, segments)): [B, outputs]. ConfigError for a bi-encoder, which has no use for its head.
  Tensor forward(const Tensor& ids, const Tensor& segments = {});
  // A bi-encoder's answer: the cosine of the vectors of two texts, ids [B, T] and [B, T'], gives [B, 1]
  // (Sentence-BERT: Reimers, Gurevych 2019, arXiv 1908.10084).
  Tensor similarity(const Tensor& first, const Tensor& second);
  // Of a batch of data::TextDataset, whose inputs are {ids, segments}, or {first, second} of separate pairs.
  Tensor forward(const data::Batch& batch);

  const TextEncoderConfig& config() const { return config_; }  // as it was made
  // What predicts masked words: linear(masked_lm_hidden(hidden), word_weight(), word_bias()).
  Tensor masked_lm_hidden(const Tensor& hidden);
  const Tensor& word_weight() const { return words_.weight; }  // [vocab, dim]
  const Tensor& word_bias() const { return word_bias_; }       // [vocab], undefined without masked_lm_head

 private:
  void check_ids(const Tensor& ids) const;
  // Hidden vectors [B, T, dim]; with rows they are packed. first_alone: those of the first position, [B,
  // dim].
  Tensor run(const Tensor& ids, const Tensor& segments, const HiddenHook& hook, const Tensor& padding,
             const PackedRows& rows, bool first_alone = false);

  TextEncoderConfig config_;
  nn::Embedding words_;
  nn::WordDropout word_drop_;
  Tensor positions_;  // [position_offset + max_positions, dim]
  nn::Embedding segments_;
  nn::LayerNorm norm_;
  nn::Dropout drop_;
  nn::LayerDrop layer_drop_;
  nn::ModuleList<nn::TransformerEncoderLayer> layers_;
  std::optional<nn::LayerNorm> last_norm_;
  std::optional<nn::Linear> pooler_;
  nn::Dropout pooler_drop_;
  nn::Dropout head_drop_;
  nn::Linear head_;
  std::optional<nn::Linear> word_dense_;
  std::optional<nn::LayerNorm> word_norm_;
  nn::Parameter word_bias_;
};

// Batches of data::TextDataset; the model must outlive it.
nn::Hookable hookable(TextEncoder& model);

}  // namespace tandem::models
