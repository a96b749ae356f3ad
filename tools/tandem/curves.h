// Pictures of training: loss, KL between the passes, accuracy, learning rate and speed, by gnuplot.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/tandem/step_curve.h"

namespace tandem::data {

struct CurveRun {
  std::string name;      // in the legend
  std::string metrics;   // CSV with the columns
                         // epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric; or ""
  StepCurve steps = {};  // in place of its training rows, where there are any
  std::optional<int64_t> best_step = {};  // whose validation is marked
};

// Draws the runs over each other into `png_file`, by a script beside it (same name, .gp) that has all numbers
// in it: `gnuplot curves.gp` there draws again. In the CSV, split is train or valid, accuracy is a fraction;
// a field may be empty. What has no values gets no panel. False if there is no gnuplot. IoError if a CSV is
// missing, lacks a column or has a row that cannot be read (with its line), or if gnuplot fails.
// `metric` names what the column of that name holds; without one the accuracy is drawn.
bool draw_curves(const std::vector<CurveRun>& runs, const std::string& png_file, const std::string& title,
                 const std::string& metric = {});

}  // namespace tandem::data
