// Training steps whose shapes repeat, each recorded once and then given to the device by one call (a CUDA
// graph): forward and backward of all passes under any plan, clipping, the optimizer, running statistics.
//
// What changes from step to step is read from the device's memory: the batch, and the seed, step, sample
// offset, alpha, divisor and learning rate (StepScalars). So a replay draws the noise that the step would
// draw by itself.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "autograd/step_scalars.h"
#include "nn/optim/clip.h"
#include "nn/optim/optimizer.h"
#include "nn/train/step.h"

namespace tandem::nn {

class RecordedSteps {
 public:
  // All must outlive it. clip_norm: as of Trainer, 0 for no clipping.
  RecordedSteps(Objective& objective, Optimizer& optimizer, double clip_norm);
  ~RecordedSteps();

  // Runs the step, which ends with the weights changed, by replaying its recording; it is recorded when steps
  // of these shapes and numbers of passes come for the second time. Nothing at the first time, or when there
  // are many recordings: the caller then runs it, which is when the device learns what it cannot learn while
  // recording. ValueError as a step's.
  std::optional<StepResult> run(const StepBatches& batches, const StepOptions& options, double lr);

 private:
  struct Recorded;
  void record(Recorded& recorded, const StepOptions& options, const StepScalars& values);
  void upload(const StepScalars& scalars);

  Objective& objective_;
  Optimizer& optimizer_;
  double clip_norm_;
  GradientNorm gradient_norm_;
  Tensor scalars_;  // StepScalars as bytes, on the device
  std::map<std::string, std::unique_ptr<Recorded>> known_;
  const Recorded* latest_ = nullptr;
  int recordings_ = 0;
};

}  // namespace tandem::nn
