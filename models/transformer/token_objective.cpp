#include "models/transformer/token_objective.h"

#include "ops/comparison.h"

namespace tandem::models {

Tensor TokenObjective::counted(const data::Batch& batch) const {
  const Tensor words = ne(batch.target, static_cast<double>(pad_id_));
  return batch.valid.defined() ? logical_and(words, batch.valid) : words;
}

int64_t TokenObjective::valid_units(const data::Batch& batch) const {
  data::Batch units;
  units.target = batch.target;
  units.valid = counted(batch);
  return nn::Objective::valid_units(units);
}

}  // namespace tandem::models
