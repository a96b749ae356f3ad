#include "nn/metrics/classes.h"

#include <algorithm>
#include <cmath>

#include "autograd/error.h"

namespace tandem::metrics {

Confusion confusion_matrix(const Classes& predicted, const Classes& target, int64_t classes) {
  check<ValueError>(predicted.size() == target.size(), "confusion_matrix: {} predictions, but {} targets",
                    predicted.size(), target.size());
  check<ValueError>(!target.empty(), "confusion_matrix: no samples, expected at least one");
  const auto size = static_cast<size_t>(std::max<int64_t>(classes, 0));
  Confusion counts(size, std::vector<int64_t>(size));
  for (size_t i = 0; i < target.size(); ++i) {
    for (const int64_t label : {predicted[i], target[i]})
      check<ValueError>(label >= 0 && label < classes,
                        "confusion_matrix: class {} of sample {} is none of {}", label, i, classes);
    ++counts[target[i]][predicted[i]];
  }
  return counts;
}

std::vector<ClassScores> class_scores(const Confusion& confusion) {
  std::vector<ClassScores> scores(confusion.size());
  for (size_t target = 0; target < confusion.size(); ++target)
    for (size_t predicted = 0; predicted < confusion.size(); ++predicted) {
      const int64_t count = confusion[target][predicted];
      scores[target].target += count, scores[predicted].predicted += count;
      if (target == predicted) scores[target].both = count;
    }
  return scores;
}

std::vector<ReliabilityBin> reliability(const std::vector<double>& confidence, const std::vector<bool>& right,
                                        int64_t bins) {
  check<ValueError>(confidence.size() == right.size(), "reliability: {} confidences, but {} outcomes",
                    confidence.size(), right.size());
  check<ValueError>(bins >= 1, "reliability: expected at least 1 bins, got {}", bins);
  std::vector<ReliabilityBin> result(bins);
  for (size_t i = 0; i < right.size(); ++i) {
    check<ValueError>(confidence[i] >= 0 && confidence[i] <= 1,
                      "reliability: expected probabilities, got {} for sample {}", confidence[i], i);
    const auto at = static_cast<int64_t>(std::ceil(confidence[i] * static_cast<double>(bins))) - 1;
    ReliabilityBin& bin = result[std::clamp<int64_t>(at, 0, bins - 1)];
    ++bin.samples, bin.confidence += confidence[i], bin.accuracy += right[i] ? 1 : 0;
  }
  for (ReliabilityBin& bin : result) {
    if (bin.samples == 0) continue;
    bin.confidence /= static_cast<double>(bin.samples), bin.accuracy /= static_cast<double>(bin.samples);
  }
  return result;
}

double expected_calibration_error(const std::vector<ReliabilityBin>& bins) {
  double sum = 0;
  int64_t samples = 0;
  for (const ReliabilityBin& bin : bins) {
    sum += static_cast<double>(bin.samples) * std::abs(bin.accuracy - bin.confidence);
    samples += bin.samples;
  }
  return samples > 0 ? sum / static_cast<double>(samples) : 0;
}

}  // namespace tandem::metrics
