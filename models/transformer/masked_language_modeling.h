// Pre-training of a TextEncoder by masked words (BERT: Devlin et al. 2019, arXiv 1810.04805, section 3.1),
// with m-pass R-Drop like any objective.
#pragma once

#include "models/transformer/text_encoder.h"
#include "models/transformer/token_objective.h"

namespace tandem::models {

// Batches of data::MaskedTexts. The output layer is the word embedding; the head and the pooler get no
// gradient.
class MaskedLanguageModeling final : public TokenObjective {
 public:
  explicit MaskedLanguageModeling(TextEncoder& model)
      : TokenObjective(model.config().pad_id), model_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override {
    const Tensor hidden = model_.hidden_where(counted(batch), batch.inputs[0], batch.inputs[1]);
    return nn::to_compute(model_.masked_lm_hidden(hidden));
  }
  LossParts loss(const Tensor& hidden, const data::Batch& batch, const RDropOptions& options,
                 int passes) override;

 private:
  TextEncoder& model_;
};

}  // namespace tandem::models
