// What `tandem train` says at the end.
#pragma once

#include <string>
#include <vector>

#include "nn/train/trainer.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {

struct Outcome {
  std::string name, run;  // of the training; its folder
  int passes;
  nn::FitResult fit;
  std::vector<Score> scores;  // of the weights that were best in validation
};

inline constexpr const char* kScoresFile = "scores.json";  // in a run folder: the scores on the test data
inline constexpr const char* kReportFile = "report.html";  // of `tandem report`
inline constexpr const char* kSweepFile = "sweep.json";    // in the folder of a sweep: what it is of
// With what the best epoch had in validation. `metric`: what that is judged by, or nothing (accuracy or
// loss).
void save_scores(const Outcome& outcome, const std::string& task, const nn::ValidationMetric& metric);

// The table of the outcomes' scores, and of two the difference. `metric` names the validation's, "" for
// accuracy or loss.
void print_report(const std::vector<Outcome>& outcomes, double alpha, const std::string& metric);

}  // namespace tandem::command
