// What the R-Drop losses, and those of ops/losses.h that share their kernel, are given: checks and messages.
#pragma once

#include <vector>

#include "autograd/tensor.h"
#include "ops/rdrop/kernel.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::rdrop {

// All but the logits or predictions, checked.
struct Inputs {
  const char* op;  // whose name errors bear
  RDropOptions options;
  Tensor target = {};                 // [units], i64, dense; undefined for regression
  Tensor mask = {};                   // valid_mask, dense; undefined: all units count
  int64_t counted = 0;                // on the CPU: units that count. On a device its kernels count them
  std::vector<int64_t> numbers = {};  // of units of which some are left out: what errors call each
  int copies = 1;                     // passes for which one pass of the logits stands
  bool from_step = true;  // alpha and divisor are the optimizer step's, which a recorded step reads anew

  const int64_t* targets() const { return target.defined() ? target.device_data<int64_t>() : nullptr; }
  const uint8_t* valid() const {
    return mask.defined() ? static_cast<const uint8_t*>(mask.device_raw()) : nullptr;
  }
  // Whether a unit counts, on the CPU.
  bool counts(int64_t unit) const {
    return (!valid() || valid()[unit] != 0) && (!targets() || targets()[unit] != options.ignore_index);
  }
  // Of ce and kl, on the CPU.
  double divisor() const {
    return options.divisor > 0 ? options.divisor : static_cast<double>(counted > 0 ? counted : 1);
  }
};

// Of logits (or what logits are made of) [units..., n], and of predictions y [units...]. ConfigError,
// ShapeError, DTypeError, DeviceError. Labels are looked at later: by check_labels, or by the kernels.
Inputs check_inputs(const char* op, const Tensor& logits, const Tensor& target, const Tensor& mask,
                    const RDropOptions& options);
Inputs check_inputs(const char* op, const Tensor& y, const Tensor& mask, const RDropOptions& options);

// The shape of x without its last dimension; ShapeError when there is none, or nothing along it.
Shape unit_shape(const char* op, const Tensor& x);

// How many of a step's `passes` each of `own` passes stands for. `passes` 0: as many as there are. ShapeError
// when they do not fit.
int copies_of(const char* op, int own, int passes);

// On the CPU: the number of units that count. ValueError for the first of them whose label is no class.
int64_t count_labels(const char* op, const Problem& problem, const int64_t* target, const uint8_t* valid);
void check_labels(const Inputs& inputs, int64_t classes);  // the same; nothing on a device

// ValueError. `classes` and `ignore_index` are for labels.
[[noreturn]] void raise_error(const UnitError& error, const char* op, int64_t classes = 0,
                              int64_t ignore_index = 0);

}  // namespace tandem::rdrop
