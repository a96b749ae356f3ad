#include "models/transformer/masked_language_modeling.h"

namespace tandem::models {

LossParts MaskedLanguageModeling::loss(const Tensor& hidden, const data::Batch& batch,
                                       const RDropOptions& options, int passes) {
  return linear_rdrop_cross_entropy(hidden, model_.word_weight(), model_.word_bias(), batch.target, options,
                                    counted(batch), passes);
}

}  // namespace tandem::models
