// What the R-Drop losses have in common: their units, and the scaling of a gradient that the forward made.
#pragma once

#include "autograd/tensor.h"
#include "ops/rdrop/cpu.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::detail {

// Which units count, dense: target [units] as i64 (undefined for regression), mask [units] as bytes
// (undefined: all).
struct RDropUnits {
  Tensor target, mask;
  int64_t counted = 0;  // on a device it is the kernels who count

  const int64_t* targets() const { return target.data<int64_t>(); }
  const uint8_t* valid() const { return mask.defined() ? static_cast<const uint8_t*>(mask.raw()) : nullptr; }
};

// Checks the options, and target and mask against `units`, the shape of one pass without its classes.
RDropUnits rdrop_units(const char* op, const Shape& units, const Tensor& target, const Tensor& mask,
                       const RDropOptions& options);
RDropUnits rdrop_units(const char* op, const Shape& units, const Tensor& mask, const RDropOptions& options);

RDropRows rdrop_rows(const RDropOptions& options, const RDropUnits& units, int passes, int64_t count,
                     int64_t classes);

// The shape of x without its last dimension.
Shape without_last(const char* op, const Tensor& x);

// ShapeError unless logits of `own` passes can stand for `passes` (0: their own number).
void check_passes(const char* op, int own, int passes);

// DeviceError unless x, if defined, is where `like` is.
void check_device(const char* op, const char* what, const Tensor& x, const Tensor& like);

// cotangent (one number) * gradient; the gradient itself, not copied, when the cotangent is known to be 1.
Tensor scale_gradient(const Tensor& gradient, const Tensor& cotangent);

// What an op finds out beside its loss. On a device `sums` are read from `device`, unless the step is being
// recorded.
struct RDropOutcome {
  RDropSums sums;
  Tensor device;
};
LossParts loss_parts(Tensor loss, const RDropOutcome& outcome);
// Passes for which `own` passes of the logits stand, each, in a step of `passes`.
inline int copies(int own, int passes) { return own == 1 && passes > 1 ? passes : 1; }

}  // namespace tandem::detail
