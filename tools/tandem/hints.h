// Lines on standard error for what is allowed and yet hardly meant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/train/trainer.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

// Before training: a rate of 0, an alpha of another library's unit, and a validation set of `valid` samples
// that cannot tell two runs apart; `accuracy`: it is judged by the share that is right.
void tell_hints(const TrainSettings& s, int64_t valid, const std::string& unit, bool accuracy);

// What to try where a loss or a gradient is not finite: "try a smaller --lr than 10, --clip-norm 1".
std::string knobs(const TrainSettings& s);

// Says once that the loss diverges or rises.
class LossWatch {
 public:
  explicit LossWatch(const TrainSettings& s) : settings_(s) {}
  void see(double loss);               // of each step
  void end(const nn::FitResult& fit);  // the epochs

 private:
  void tell_rise(double from, double to);

  const TrainSettings& settings_;
  int64_t steps_ = 0;
  double first_ = 0, recent_ = 0;  // means, of the first steps and of the last ones
  bool told_ = false;
};

// For load(), a line each or "": a first line of a table that names its columns, and labels that are as long
// as the texts.
std::string header_hint(const std::string& file, const std::vector<std::string>& first_line);
std::string swapped_hint(const std::string& file, const std::vector<std::string>& labels,
                         const std::vector<std::string>& texts);

}  // namespace tandem::command
