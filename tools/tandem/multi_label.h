// What recipes share whose samples have several labels each: --multi-label.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nn/data/dataset.h"
#include "nn/metrics/labels.h"
#include "nn/train/trainer.h"
#include "tools/tandem/scores.h"

namespace tandem::command {

// [samples][labels] of the data set, in its order: a model's logits.
using Logits = std::vector<std::vector<double>>;

// Whether each label's probability is above 1/2, that is its logit above 0.
metrics::LabelSets predicted_labels(const Logits& logits);
// The targets of data::LabelSetDataset.
metrics::LabelSets target_labels(const data::Dataset& dataset);
// "a|b" of the labels that are there; "|" for none.
std::string join_labels(const std::vector<bool>& there, const std::vector<std::string>& labels);

// Micro-F1 (with an interval between trainings where `compare`), macro-F1, mean average precision, exact
// match; in per cent. `unit`: what a sample is.
std::vector<Score> multi_label_scores(const Logits& logits, const metrics::LabelSets& target,
                                      const std::string& unit, bool compare);
// Validation is judged by micro-F1.
nn::ValidationMetric multi_label_metric(std::function<Logits()> logits, const data::Dataset& valid);

}  // namespace tandem::command
