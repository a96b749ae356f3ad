#include "models/transformer/masked_language_modeling.h"

#include "models/transformer/language_model.h"
#include "ops/ops.h"

namespace tandem::models {

LossParts MaskedLanguageModeling::loss(const Tensor& hidden, const data::Batch& batch,
                                       const RDropOptions& options, int passes) {
  return linear_rdrop_cross_entropy(hidden, model_.word_weight(), {}, batch.target, options,
                                    counted(batch, model_.config().pad_id), passes);
}

int64_t MaskedLanguageModeling::valid_units(const data::Batch& batch) const {
  data::Batch units;
  units.target = batch.target;
  units.valid = counted(batch, model_.config().pad_id);
  return nn::Objective::valid_units(units);
}

}  // namespace tandem::models
