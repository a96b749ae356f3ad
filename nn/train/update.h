// A whole optimizer step in two halves: what a device is given, and what the host then waits for. Between
// them the host has time for other work, for instance the next batch.
#pragma once

#include <vector>

#include "nn/optim/clip.h"
#include "nn/optim/ema.h"
#include "nn/optim/optimizer.h"
#include "nn/ranks/gradient_sum.h"
#include "nn/train/plan.h"

namespace tandem::nn {

// A step that was begun, maybe not done.
struct Update {
  std::vector<LossParts> parts;  // of the micro-batches
  Tensor norm = {};              // f64 [2]: of the gradients; not finite where a loss is not, either
  int64_t units = 0;             // that count
  StepOptions options;           // of the step
  bool deferred = false;         // the numbers of the parts are on the device
};

// Forward and backward of all passes, clipping (clip_norm 0: none), the optimizer, averaged weights (ema, or
// null) and running statistics. They change only where loss and gradients are finite. Where `deferred`,
// nothing waits for a device, unless the objective does. With `all_ranks`, gradients and parts are those of
// all.
Update begin_update(Objective& objective, Optimizer& optimizer, Ema* ema, GradientNorm& gradient_norm,
                    double clip_norm, const StepBatches& batches, const StepOptions& options, bool deferred,
                    GradientSum* all_ranks = nullptr);

// Waits for it. NonFiniteError naming the step when its loss or gradient is not finite; optimizer and
// averages then count no step.
StepResult finish_update(const Objective& objective, Optimizer& optimizer, Ema* ema, const Update& update);

}  // namespace tandem::nn
