// The encoder of BERT (Devlin et al. 2019, arXiv 1810.04805) with a head for classification or regression, of
// one text or of a pair.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/methods/hidden_hook.h"
#include "nn/train/objective.h"

namespace tandem::models {

// What a text's vector is made of: BERT's first token ("[CLS]"), or the mean over its tokens.
enum class Pooling { cls, mean };

struct TextEncoderConfig {
  int64_t vocab = 4000;
  int64_t segments = 2;  // kinds of text: the first and the second of a pair
  int64_t outputs = 2;   // classes; 1 for regression
  int64_t dim = 128;
  int64_t heads = 4;  // divides dim
  int64_t mlp_dim = 512;
  int64_t layers = 2;
  int64_t max_positions = 128;
  int64_t pad_id = 0;
  double dropout = 0.1;
  double attention_dropout = 0, layer_drop = 0, word_dropout = 0;
  double norm_eps = 1e-12;
  bool norm_first = false;  // pre-norm, with a norm at the end; otherwise post-norm, as BERT is
  Pooling pooling = Pooling::cls;
  bool bi_encoder = false;  // reads two texts one by one and compares their vectors; outputs is 1
};

// "tiny" (1 layer, d 64), "small" (2, d 128), "bert_base" (12, d 768, ffn 3072, 12 heads, 30,522 pieces).
// ConfigError for another name.
TextEncoderConfig text_encoder_preset(const std::string& name);
std::vector<std::string> text_encoder_preset_names();

using nn::HiddenHook;

class TextEncoder : public nn::Module {
 public:
  explicit TextEncoder(const TextEncoderConfig& config);  // ConfigError naming the option

  // ids i64 [B, T], segments i64 [B, T] or undefined (all 0), to [B, T, dim]. Positions that hold pad_id are
  // not attended to. ShapeError for more than max_positions.
  Tensor hidden(const Tensor& ids, const Tensor& segments = {}, const HiddenHook& hook = {});
  // tanh(dense(first token, or mean over the tokens)): [B, dim].
  Tensor pooled(const Tensor& ids, const Tensor& segments = {}, const HiddenHook& hook = {});
  Tensor head(const Tensor& pooled);  // dropout and a linear layer: [B, outputs]
  // [B, outputs]. A bi-encoder takes the ids of the first texts [B, T] and of the second ones [B, T'], and
  // gives the cosine of their vectors [B, 1] (Sentence-BERT: Reimers, Gurevych 2019, arXiv 1908.10084).
  Tensor forward(const Tensor& ids, const Tensor& segments_or_second = {});

  const TextEncoderConfig& config() const { return config_; }
  const Tensor& word_weight() const { return words_.weight; }

 private:
  TextEncoderConfig config_;
  nn::Embedding words_;
  nn::WordDropout word_drop_;
  Tensor positions_;  // [max_positions, dim]
  nn::Embedding segments_;
  nn::LayerNorm norm_;
  nn::Dropout drop_;
  nn::LayerDrop layer_drop_;
  nn::ModuleList<nn::TransformerEncoderLayer> layers_;
  std::optional<nn::LayerNorm> last_norm_;
  nn::Linear pooler_;
  nn::Dropout head_drop_;
  nn::Linear head_;
};

// Batches of data::TextDataset; the model must outlive it.
nn::Hookable hookable(TextEncoder& model);

// Batches of data::TextDataset: inputs {ids, segments}, target [B] labels.
class TextClassification final : public nn::Objective {
 public:
  explicit TextClassification(TextEncoder& model) : model_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override {
    return model_.forward(batch.inputs[0], batch.inputs[1]);
  }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
  }

 private:
  TextEncoder& model_;
};

// The same with a target [B] of numbers.
class TextRegression final : public nn::Objective {
 public:
  explicit TextRegression(TextEncoder& model) : model_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override {
    return model_.forward(batch.inputs[0], batch.inputs[1]);
  }
  LossParts loss(const Tensor& prediction, const data::Batch& batch, const RDropOptions& options,
                 int) override {
    return rdrop_mse(prediction, batch.target, options, batch.valid);
  }
  bool counts_correct() const override { return false; }

 private:
  TextEncoder& model_;
};

}  // namespace tandem::models
