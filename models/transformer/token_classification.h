// Tags of words by a TextEncoder, as BERT does it (Devlin et al. 2019, arXiv 1810.04805, section 5.3), with
// m-pass R-Drop like any objective.
#pragma once

#include "models/transformer/text_encoder.h"
#include "nn/train/objective.h"
#include "ops/comparison.h"

namespace tandem::models {

// Batches of data::TaggedDataset. The head reads each token's hidden vector; a pooler gets no gradient.
class TokenClassification final : public nn::Objective {
 public:
  explicit TokenClassification(TextEncoder& model, const Tensor& class_weights = {})
      : model_(model), weights_(class_weights) {}
  nn::Module& module() override { return model_; }
  // Logits [B, T, outputs]; those of padding mean nothing.
  Tensor forward(const data::Batch& batch) override {
    Tensor tagged = ne(batch.target, RDropOptions().ignore_index);
    if (batch.valid.defined()) tagged = logical_and(tagged, batch.valid);
    return model_.head(model_.hidden_where(tagged, batch.inputs[0], batch.inputs[1]));
  }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return weights_.loss(model_, logits, batch, options, passes);
  }
  double weight_of(const data::Batch& batch, int64_t units) const override {
    return weights_.weight_of(batch, units);
  }
  bool recordable() const override { return !weights_.given(); }

 private:
  TextEncoder& model_;
  nn::ClassWeights weights_;
};

}  // namespace tandem::models
