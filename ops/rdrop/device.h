// The R-Drop losses on a device: launches of the kernels of ops/rdrop/rdrop.cu, and their sums on the host.
#pragma once

#include "ops/rdrop/inputs.h"
#include "ops/rdrop/kernel.h"

namespace tandem::detail {

// One call: units in one go or some at a time, then finish().
class RDropOnDevice {
 public:
  // `like` is a tensor of the device. `step`: alpha and the divisor are those of the step, so that a recorded
  // step reads them anew.
  RDropOnDevice(RDropCaller caller, const RDropOptions& options, const RDropUnits& units, const Tensor& like,
                int64_t count, int64_t classes, bool step = true);

  // Units [first, first + count), whose rows begin with the first.
  template <class T>
  void cross_entropy(int passes, PassRows<const T> logits, PassRows<T> grad, int64_t first, int64_t count);
  template <class T>
  void mse(int passes, PassRows<const T> y, PassRows<T> grad, const T* target);

  // Sets the loss, f32 or f64 []. `copies`: passes for which one pass of the logits stands. ValueError as the
  // kernels of the CPU have it, unless the step is being recorded: then nothing is read.
  RDropOutcome finish(const Tensor& loss, int copies);

 private:
  RDropRows rows(int passes, int64_t count) const;

  RDropCaller caller_;
  RDropOptions options_;
  const RDropUnits& units_;
  Tensor like_, sums_, parts_;
  int64_t count_, classes_, parts_count_ = 0;
  RDropWeights weights_;
};

// Counts the units of a target; ValueError where a label is none, if `check` (which waits for the device).
// Its sums have `valid` and `divisor`.
Tensor count_units(RDropCaller caller, const RDropOptions& options, const RDropUnits& units,
                   const Tensor& like, int64_t count, int64_t classes, bool check);

}  // namespace tandem::detail
