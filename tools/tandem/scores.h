// Scores of a model on its test data: as text for a table, as numbers for a file, and the interval of the
// difference between two trainings.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nn/data/dataset.h"

namespace tandem::command {

// The same score of a part of the test data, given by positions, which may repeat.
struct Resampled {
  int64_t size = 0;
  std::string unit;  // what the positions count: "images"
  std::function<double(const data::Indices&)> score;
};

struct Score {
  std::string name, value;                            // a column of the report: "test accuracy", "81.03%"
  double number = std::nan("");                       // of the value, in full; NaN: the value's own digits
  std::optional<Resampled> resampled = std::nullopt;  // where a difference can have an interval
};

// A number with so many digits, and what stands behind it: "81.03%".
Score score(std::string name, double number, int digits, const std::string& unit = "");
// The mean of what each of the test's samples scored.
Score mean_score(std::string name, const std::vector<double>& of_samples, int digits, const std::string& unit,
                 const std::string& counted);

// By how much a second training's score is above the first's, and the middle 95 % of that difference over
// test data drawn again and again from these (a paired bootstrap).
struct Difference {
  std::string name, unit;
  double value = 0, low = 0, high = 0;
  int64_t samples = 0;
  // A handful of samples tells nothing, whatever its interval.
  bool within_noise() const { return (low <= 0 && high >= 0) || samples < 8; }
};
std::optional<Difference> difference(const Score& first, const Score& second);
// Of the first score that has one.
std::optional<Difference> difference(const std::vector<Score>& first, const std::vector<Score>& second);
// "R-Drop - plain: test accuracy +1.45, 95 % interval +0.80 to +2.10 over the 10000 test images"
std::string describe(const Difference& difference);

// {"task": ..., "scores": {...}}, of names that are given and scores. `interval`: of "difference".
using Names = std::vector<std::pair<std::string, std::string>>;
std::string scores_to_json(const Names& about, const std::vector<Score>& scores,
                           const std::optional<Difference>& interval = std::nullopt);

// Rows of text in columns as wide as what stands in them, the first to the left.
void print_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace tandem::command
