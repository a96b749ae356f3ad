// Arguments of the kernels that make a residual sum and its layer norm at once, and the gradients of both
// (ops/residual.cpp), compiled by host and device.
#pragma once

#include "ops/dropout_kernel.h"
#include "ops/norms/row_norm_args.h"

namespace tandem::detail {

// What becomes of the branch in each pass.
struct BranchNoise {
  int64_t rows_of_sample;
  DeviceNoise noise;
  uint32_t threshold[kPassesAtOnce];
  float scale[kPassesAtOnce];
};

// Of rows, of which x is the input beside the branch z; the norm goes to y.
template <class Z, class O> struct ResidualNormRows : NormRows<float, O> {
  const Z* z;
  float* sum;
  int64_t x_pass, z_pass;  // elements from one pass to the next; 0 where all of them read the same
  BranchNoise branch;
};

// The gradient of such a sum, dx, and that of its branch.
template <class G, class Z> struct ResidualNormGrad : NormRowsGrad<float, G> {
  Z* dz;
  BranchNoise branch;
};

// Rows of so many values are held in registers, four at a time.
inline constexpr int64_t kLongestResidualNorm = 4096;

}  // namespace tandem::detail
