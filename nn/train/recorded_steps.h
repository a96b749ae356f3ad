// Training steps of equal shapes, recorded once and then launched by one call (a CUDA graph): forward and
// backward of all passes under any plan, clipping, the optimizer, running statistics.
//
// What changes from step to step is read from the device's memory: the batch, and the seed, step, sample
// offset, alpha, divisor and learning rate (StepScalars). So a replay draws the same noise as the step run by
// itself.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "autograd/step_scalars.h"
#include "nn/train/update.h"

namespace tandem::nn {

class RecordedSteps {
 public:
  // All must outlive it; ema may be null. clip_norm as in TrainerOptions: 0 for no clipping.
  RecordedSteps(Objective& objective, Optimizer& optimizer, Ema* ema, double clip_norm);
  ~RecordedSteps();

  // Gives the device the whole step, weights included, by replaying its recording, which is made the second
  // time that steps of these shapes and passes come; finish_update waits for it. Empty the first time (plans
  // and workspaces cannot be made during capture), and for further shapes once 32 recordings exist: the
  // caller then runs the step itself. DeviceError for a step that cannot be recorded.
  std::optional<Update> begin(const StepBatches& batches, const StepOptions& options);

 private:
  struct Recorded;
  void record(Recorded& recorded, const StepOptions& options, const StepScalars& values);
  void upload(const StepScalars& scalars);

  Objective& objective_;
  Optimizer& optimizer_;
  Ema* ema_;
  double clip_norm_;
  GradientNorm gradient_norm_;
  Tensor scalars_;  // StepScalars as bytes, on the device
  std::map<std::string, std::unique_ptr<Recorded>> known_;
  const Recorded* latest_ = nullptr;
  int recordings_ = 0;
  std::string learning_;  // which parameters do
};

}  // namespace tandem::nn
