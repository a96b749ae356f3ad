// Scores of predictions of several labels of a sample, each there or not.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::metrics {

// Of samples and classes [samples][classes]: how sure a class is, of which larger is surer.
using LabelScores = std::vector<std::vector<double>>;
using LabelSets = std::vector<std::vector<bool>>;  // whether it is there

// From predictions and targets of the same samples and classes, at least one of each (ValueError); 0 to 1.
double exact_match(const LabelSets& predicted, const LabelSets& target);  // share of samples without mistake
double micro_label_f1(const LabelSets& predicted,
                      const LabelSets& target);  // of all samples and classes as one
// The mean of all classes' F1; 0 for one without a true positive.
double macro_label_f1(const LabelSets& predicted, const LabelSets& target);

// The mean over the classes of the average precision: of sum_n (R_n - R_{n-1}) P_n, where P_n and R_n are
// precision and recall of the samples down to the n-th largest score, equal ones together; 0 for a class that
// no sample has. ValueError also for a score that is NaN.
double mean_average_precision(const LabelScores& scores, const LabelSets& target);

}  // namespace tandem::metrics
