// A classifier's predictions class by class, and how far its probabilities can be trusted.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/metrics/scores.h"

namespace tandem::metrics {

// [target][predicted]: how many samples of each class were taken for which. ValueError as of scores.h, and
// for a class outside of 0 to classes - 1.
using Confusion = std::vector<std::vector<int64_t>>;
Confusion confusion_matrix(const Classes& predicted, const Classes& target, int64_t classes);

// What one class's predictions come to, from 0 to 1 each.
struct ClassScores {
  int64_t predicted = 0, target = 0, both = 0;  // samples: taken for it, of it, and both

  double precision() const { return share(both, predicted); }        // 0 where nothing was taken for it
  double recall() const { return share(both, target); }              // 0 where there is none of it
  double f1() const { return share(2 * both, predicted + target); }  // of both; 0 where there is neither

 private:
  static double share(int64_t part, int64_t all) {
    return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0;
  }
};
// Of each class.
std::vector<ClassScores> class_scores(const Confusion& confusion);

// Samples whose confidence, the probability of the predicted class, is alike.
struct ReliabilityBin {
  int64_t samples = 0;                  // in it
  double confidence = 0, accuracy = 0;  // their means; 0 without any
};
// Bins of equal width over (0, 1] (Guo et al. 2017, arXiv 1706.04599, section 2). `right`: 1 where the
// predicted class is the target, else 0. ValueError for another number of these, a confidence outside of
// [0, 1], or fewer than one bin.
std::vector<ReliabilityBin> reliability(const std::vector<double>& confidence, const std::vector<bool>& right,
                                        int64_t bins = 15);
// The mean over the samples of |accuracy - confidence| of their bin (ECE), 0 to 1; 0 without samples.
double expected_calibration_error(const std::vector<ReliabilityBin>& bins);

}  // namespace tandem::metrics
