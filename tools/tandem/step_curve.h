// The steps of a training, few enough to be drawn.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tandem::data {

// What the steps of a training came to, thinned so that it can be drawn: each point is the mean of as many
// steps as it takes.
class StepCurve {
 public:
  // What is drawn of a step; NaN where there is none.
  enum Number { loss, ce, kl, accuracy, lr, samples_per_s, kNumbers };
  static constexpr std::array kNames{"loss",     "ce", "kl",
                                     "accuracy", "lr", "samples_per_s"};  // in steps.jsonl
  using Numbers = std::array<double, kNumbers>;
  struct Point {
    double step = 0;     // the last one of them
    Numbers means = {};  // NaN where no step has one
    std::array<int64_t, kNumbers> counts = {};
    int64_t steps = 0;
  };

  void add(int64_t step, const Numbers& numbers);
  // The lines of a training in steps.jsonl, up to that step; ends where one is damaged, nothing without a
  // file.
  void read(const std::string& file, int64_t last);
  const std::vector<Point>& points() const { return points_; }

 private:
  static constexpr size_t kMost = 500;
  std::vector<Point> points_;
  int64_t each_ = 1;  // steps of a point
};

}  // namespace tandem::data
