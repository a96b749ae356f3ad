// Steps whose loss or gradient is not finite: where that comes from, and what a trainer does then.
#pragma once

#include <string>
#include <string_view>

#include "nn/data/dataset.h"
#include "nn/optim/optimizer.h"
#include "nn/train/plan.h"

namespace tandem::nn {

// What a trainer does at a step whose loss or gradient is not finite. It has changed nothing by then.
enum class OnNan {
  stop,  // ends with a NonFiniteError
  skip,  // goes on with the next batch; after kMostSkipped in a row it stops
  back,  // goes back to the last checkpoint, and on with the next batch: those since then are left out, too
};
OnNan parse_on_nan(std::string_view name);  // ConfigError for an unknown one
std::string_view name_of(OnNan on_nan);     // what parse_on_nan takes

inline constexpr int64_t kMostSkipped = 10;  // steps in a row

// Runs a step again, which has the same noise, with every op looked through (DetectAnomalyGuard), and says
// where the first number that is not finite comes from: a parameter, samples of the batch (by their numbers
// in `indices`, those of the step), or the op that made it and its module. Changes nothing but gradients,
// which are cleared.
std::string origin_of_non_finite(Objective& objective, Optimizer& optimizer, const StepBatches& batches,
                                 const StepOptions& options, const data::Indices& indices = {});

// "samples 3, 17, 42", cut after 64 of them with the number of all.
std::string list_of(const data::Indices& indices);

}  // namespace tandem::nn
