#include "tools/tandem/step_curve.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace tandem::data {
namespace {

StepCurve::Point joined(const StepCurve::Point& a, const StepCurve::Point& b) {
  StepCurve::Point both{.step = b.step, .steps = a.steps + b.steps};
  for (size_t i = 0; i < both.means.size(); ++i) {
    both.counts[i] = a.counts[i] + b.counts[i];
    const auto sum = [&](const StepCurve::Point& p) {
      return p.counts[i] > 0 ? p.means[i] * static_cast<double>(p.counts[i]) : 0;
    };
    both.means[i] = both.counts[i] > 0 ? (sum(a) + sum(b)) / static_cast<double>(both.counts[i]) : NAN;
  }
  return both;
}

}  // namespace

void StepCurve::add(int64_t step, const Numbers& numbers) {
  if (points_.empty() || points_.back().steps >= each_) {
    if (points_.size() >= kMost) {  // half as many, of twice as many steps
      for (size_t i = 0; i < points_.size() / 2; ++i) points_[i] = joined(points_[2 * i], points_[2 * i + 1]);
      points_.resize(points_.size() / 2);
      each_ *= 2;
    }
    points_.emplace_back();
  }
  Point one{.step = static_cast<double>(step), .means = numbers, .steps = 1};
  for (int i = 0; i < kNumbers; ++i) one.counts[i] = std::isfinite(numbers[i]);
  points_.back() = points_.back().steps == 0 ? one : joined(points_.back(), one);
}

void StepCurve::read(const std::string& file, int64_t last) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer() || row["step"] > last)
      break;
    if (!row.contains("split") || row["split"] != "train") continue;
    Numbers numbers;
    for (int i = 0; i < kNumbers; ++i) {
      const auto found = row.find(kNames[i]);
      numbers[i] = found != row.end() && found->is_number() ? found->get<double>() : NAN;
    }
    add(row["step"], numbers);
  }
}

}  // namespace tandem::data
