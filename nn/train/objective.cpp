#include "nn/train/objective.h"

#include <algorithm>
#include <cmath>

#include "ops/indexing.h"
#include "ops/reduce.h"

namespace tandem::nn {
namespace {

// 1 for each unit that counts.
std::vector<uint8_t> counted(const data::Batch& batch) {
  const int64_t count = batch.target.numel();
  std::vector<uint8_t> units =
      batch.valid.defined() ? batch.valid.to_vector<uint8_t>() : std::vector<uint8_t>(count, 1);
  if (is_floating(batch.target.dtype())) return units;
  const auto labels = batch.target.to_vector<int64_t>();
  for (size_t i = 0; i < units.size(); ++i)
    units[i] = units[i] != 0 && labels[i] != RDropOptions().ignore_index;
  return units;
}

}  // namespace

int64_t Objective::valid_units(const data::Batch& batch) const {
  int64_t count = 0;
  for (const uint8_t unit : counted(batch)) count += unit != 0;
  return count;
}

ClassWeights::ClassWeights(const Tensor& weights) : weights_(weights) {
  if (!weights.defined()) return;
  const auto values = weights.to_vector<double>();
  for (size_t i = 0; i < values.size(); ++i)
    check<ConfigError>(values[i] >= 0 && std::isfinite(values[i]),
                       "class_weights: that of class {} is {}, expected a finite number >= 0", i, values[i]);
  check<ConfigError>(std::any_of(values.begin(), values.end(), [](double w) { return w > 0; }),
                     "class_weights: expected one above 0, got none");
}

LossParts ClassWeights::loss(const Module& module, const Tensor& logits, const data::Batch& batch,
                             const RDropOptions& options, int passes) const {
  if (!given() || !module.is_training())
    return rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
  return weighted_rdrop_cross_entropy(logits, batch.target, weights_.to(logits.device()), options,
                                      batch.valid, passes);
}

double ClassWeights::weight_of(const data::Batch& batch, int64_t units) const {
  if (!given()) return static_cast<double>(units);
  const auto labels = batch.target.to_vector<int64_t>();
  const auto weights = weights_.to_vector<double>();
  const std::vector<uint8_t> counts = counted(batch);
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (counts[i] == 0) continue;
    check<ValueError>(labels[i] >= 0 && labels[i] < std::ssize(weights),
                      "class_weights: label {} at {}, expected a class in [0, {})", labels[i], i,
                      weights.size());
    sum += weights[labels[i]];
  }
  return sum;
}

}  // namespace tandem::nn
