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
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n,
               mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i] - mean_a, y = b[i] - mean_b;
    ab += x * y, aa += x * x, bb += y * y;
  }
  check<ValueError>(aa > 0 && bb > 0, "correlation: the {} are all the same number",
                    aa > 0 ? "targets" : "predictions");
  return std::clamp(ab / std::sqrt(aa) / std::sqrt(bb), -1.0, 1.0);
}

double spearman(const Numbers& a, const Numbers& b) {
  check_sizes("correlation", a, b, 2);
  return pearson(ranks(a), ranks(b));
}

double perplexity(double nats_per_token) { return std::exp(nats_per_token); }

double bits_per_character(double nats_per_token, int64_t tokens, int64_t characters) {
  check<ValueError>(characters >= 1, "bits_per_character: expected at least one character, got {}",
                    characters);
  return nats_per_token * static_cast<double>(tokens) / (std::log(2.0) * static_cast<double>(characters));
}

}  // namespace tandem::metrics
