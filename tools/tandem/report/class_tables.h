// Predictions class by class as HTML.
#pragma once

#include <string>
#include <vector>

#include "nn/metrics/classes.h"

namespace tandem::report {

// A matrix of counts, coloured by their share of the row; of many classes the pairs that are confused most.
std::string confusion_html(const metrics::Confusion& confusion, const std::vector<std::string>& classes);
// Precision, recall and F1 of each class, and their mean.
std::string class_scores_html(const metrics::Confusion& confusion, const std::vector<std::string>& classes);
// A reliability diagram: accuracy by confidence, with how many samples are in each bin.
std::string reliability_html(const std::vector<metrics::ReliabilityBin>& bins);

}  // namespace tandem::report
