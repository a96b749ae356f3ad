// Table of tensors for a multi-tensor kernel, which lies on the device and cuts them into chunks, and the
// kernels' arguments.
#pragma once

#include <cstdint>

#include "autograd/step_scalars.h"

namespace tandem::nn {

struct TensorRow {
  void* parameter = nullptr;
  void* gradient = nullptr;
  void* state[2] = {};
  int64_t numel = 0;
  int64_t first_chunk = 0;
  int64_t steps_ahead = 0;  // added to OptimizerStep::steps
  double lr_ratio = 1, weight_decay = 0;
  bool aligned = false;  // 16 bytes may be read and written at once
  bool operator==(const TensorRow&) const = default;
};

inline constexpr int64_t kTensorChunk = 8192;  // elements

struct TensorRows {  // on the device
  const TensorRow* rows = nullptr;
  const int32_t* row_of_chunk = nullptr;
  int64_t chunks = 0;
};

// One update of all parameters of type T, of their gradients times norm[1]; does nothing where norm[0] is not
// finite.
template <class Rule, class T> struct OptimizerStep {
  TensorRows tensors;
  Rule rule;
  double lr;
  int64_t steps;               // the number of this update, from 1
  const StepScalars* scalars;  // replaces lr and steps in a recorded step; else null
  const double* norm;          // or null
};

// sums[c] = the sum of squares of chunk c of the gradients.
template <class T> struct SquareSums {
  TensorRows tensors;
  double* sums;
};

// norm[0] = the square root of the sum of all, in their order; norm[1] = min(1, max_norm / (norm + 1e-6)).
struct NormOfSums {
  const double* sums;
  int64_t count;
  double max_norm;
  double* norm;
};

// Gradients times norm[1], unless it is 1 or norm[0] is not finite.
template <class T> struct ScaleGradients {
  TensorRows tensors;
  const double* norm;
};

}  // namespace tandem::nn
