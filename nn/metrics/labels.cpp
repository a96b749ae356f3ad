#include "nn/metrics/labels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/error.h"

namespace tandem::metrics {
namespace {

template <class Rows> size_t classes_of(const char* what, const Rows& predicted, const LabelSets& target) {
  check<ValueError>(predicted.size() == target.size() && !target.empty() && !target[0].empty(),
                    "{}: {} predictions, {} targets, expected as many, one at least, of a class at least",
                    what, predicted.size(), target.size());
  for (size_t i = 0; i < target.size(); ++i)
    check<ValueError>(predicted[i].size() == target[0].size() && target[i].size() == target[0].size(),
                      "{}: sample {}: {} predictions and {} targets, expected {} classes", what, i,
                      predicted[i].size(), target[i].size(), target[0].size());
  return target[0].size();
}

struct Counts {
  int64_t found = 0, expected = 0, both = 0;
  double f1() const {
    return found + expected > 0 ? 2.0 * static_cast<double>(both) / static_cast<double>(found + expected) : 0;
  }
};

Counts count(const LabelSets& predicted, const LabelSets& target, size_t label) {
  Counts counts;
  for (size_t i = 0; i < target.size(); ++i) {
    counts.found += predicted[i][label], counts.expected += target[i][label];
    counts.both += predicted[i][label] && target[i][label];
  }
  return counts;
}

}  // namespace

double exact_match(const LabelSets& predicted, const LabelSets& target) {
  classes_of("exact_match", predicted, target);
  int64_t right = 0;
  for (size_t i = 0; i < target.size(); ++i) right += predicted[i] == target[i];
  return static_cast<double>(right) / static_cast<double>(target.size());
}

double micro_label_f1(const LabelSets& predicted, const LabelSets& target) {
  Counts all;
  for (size_t label = 0; label < classes_of("micro_label_f1", predicted, target); ++label) {
    const Counts one = count(predicted, target, label);
    all.found += one.found, all.expected += one.expected, all.both += one.both;
  }
  return all.f1();
}

double macro_label_f1(const LabelSets& predicted, const LabelSets& target) {
  const size_t classes = classes_of("macro_label_f1", predicted, target);
  double sum = 0;
  for (size_t label = 0; label < classes; ++label) sum += count(predicted, target, label).f1();
  return sum / static_cast<double>(classes);
}

double mean_average_precision(const LabelScores& scores, const LabelSets& target) {
  const size_t classes = classes_of("mean_average_precision", scores, target);
  double sum = 0;
  std::vector<size_t> order(target.size());
  for (size_t label = 0; label < classes; ++label) {
    int64_t expected = 0;
    for (size_t i = 0; i < target.size(); ++i) {
      check<ValueError>(!std::isnan(scores[i][label]),
                        "mean_average_precision: the score of class {} of sample {} is nan", label, i);
      expected += target[i][label];
    }
    if (expected == 0) continue;
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return scores[a][label] > scores[b][label]; });
    int64_t right = 0, before = 0;
    for (size_t n = 0; n < order.size(); ++n) {
      right += target[order[n]][label];
      const bool last = n + 1 == order.size() || scores[order[n + 1]][label] != scores[order[n]][label];
      if (!last) continue;
      const double precision = static_cast<double>(right) / static_cast<double>(n + 1);
      sum += static_cast<double>(right - before) / static_cast<double>(expected) * precision;
      before = right;
    }
  }
  return sum / static_cast<double>(classes);
}

}  // namespace tandem::metrics
