#include "nn/metrics/scores.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "autograd/error.h"

namespace tandem::metrics {
namespace {

template <class T>
void check_sizes(const char* what, const std::vector<T>& a, const std::vector<T>& b, size_t fewest) {
  check<ValueError>(a.size() == b.size(), "{}: {} predictions, but {} targets", what, a.size(), b.size());
  check<ValueError>(a.size() >= fewest, "{}: expected at least {} values, got {}", what, fewest, a.size());
}

struct Counts {
  int64_t predicted = 0, target = 0, both = 0;
};
std::map<int64_t, Counts> count(const Classes& predicted, const Classes& target) {
  std::map<int64_t, Counts> counts;
  for (size_t i = 0; i < predicted.size(); ++i) {
    ++counts[predicted[i]].predicted;
    ++counts[target[i]].target;
    counts[target[i]].both += predicted[i] == target[i];
  }
  return counts;
}

void check_finite(const Numbers& values, const char* side) {
  for (size_t i = 0; i < values.size(); ++i)
    check<ValueError>(std::isfinite(values[i]),
                      "correlation: value {} of the {} is {}, expected a finite number", i, side, values[i]);
}

// From the mean, in units of the largest value: squares of any numbers neither overflow nor vanish.
Numbers deviations(const Numbers& values, const char* side) {
  check_finite(values, side);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  check<ValueError>(*low < *high, "correlation: the {} are all the same number", side);
  const double size = std::max(std::abs(*low), std::abs(*high));
  double mean = 0;
  for (double value : values) mean += value / size / static_cast<double>(values.size());
  Numbers result;
  for (double value : values) result.push_back(value / size - mean);
  return result;
}

std::vector<double> ranks(const Numbers& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) result[order[i]] = (static_cast<double>(begin + end) + 1) / 2;
  }
  return result;
}

}  // namespace

double accuracy(const Classes& predicted, const Classes& target) {
  check_sizes("accuracy", predicted, target, 1);
  int64_t right = 0;
  for (size_t i = 0; i < target.size(); ++i) right += predicted[i] == target[i];
  return static_cast<double>(right) / static_cast<double>(target.size());
}

double macro_f1(const Classes& predicted, const Classes& target) {
  check_sizes("macro_f1", predicted, target, 1);
  const auto counts = count(predicted, target);
  double sum = 0;
  for (const auto& [label, c] : counts)
    sum += 2.0 * static_cast<double>(c.both) / static_cast<double>(c.predicted + c.target);
  return sum / static_cast<double>(counts.size());
}

double matthews_correlation(const Classes& predicted, const Classes& target) {
  check_sizes("matthews_correlation", predicted, target, 1);
  const auto n = static_cast<double>(target.size());
  double right = 0, products = 0, predicted_squares = 0, target_squares = 0;
  for (const auto& [label, c] : count(predicted, target)) {
    const auto p = static_cast<double>(c.predicted), t = static_cast<double>(c.target);
    right += static_cast<double>(c.both);
    products += p * t, predicted_squares += p * p, target_squares += t * t;
  }
  const double below = (n * n - predicted_squares) * (n * n - target_squares);
  return below > 0 ? (right * n - products) / std::sqrt(below) : 0;
}

double pearson(const Numbers& a, const Numbers& b) {
  check_sizes("correlation", a, b, 2);
  const Numbers x = deviations(a, "predictions"), y = deviations(b, "targets");
  const double xy = std::inner_product(x.begin(), x.end(), y.begin(), 0.0),
               xx = std::inner_product(x.begin(), x.end(), x.begin(), 0.0),
               yy = std::inner_product(y.begin(), y.end(), y.begin(), 0.0);
  return std::clamp(xy / std::sqrt(xx) / std::sqrt(yy), -1.0, 1.0);
}

double spearman(const Numbers& a, const Numbers& b) {
  check_sizes("correlation", a, b, 2);
  check_finite(a, "predictions"), check_finite(b, "targets");
  return pearson(ranks(a), ranks(b));
}

double perplexity(double nats_per_token) { return std::exp(nats_per_token); }

double bits_per_character(double nats_per_token, int64_t tokens, int64_t characters) {
  check<ValueError>(characters >= 1, "bits_per_character: expected at least one character, got {}",
                    characters);
  return nats_per_token * static_cast<double>(tokens) / (std::log(2.0) * static_cast<double>(characters));
}

}  // namespace tandem::metrics
