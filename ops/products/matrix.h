// Tensors as the matrices of ops/products/matmul_kernel.h.
#pragma once

#include "autograd/kernel.h"
#include "ops/products/matmul_kernel.h"

namespace tandem::detail {

// x [..., k] of all passes as one matrix [rows, k] of one pass (recorded); a view where strides allow.
inline Tensor fold_rows(const Tensor& x) {
  int64_t rows = x.passes();
  for (int i = 0; i + 1 < x.dim(); ++i) rows *= x.shape()[i];
  return (x.passes() > 1 ? x.passes_as_batch() : x).reshape({rows, x.shape().back()});
}

// A tensor [rows, cols] of one pass, on any device.
inline MatrixBatch as_matrix(const Tensor& x) {
  return {x.device_raw(), x.dtype(), x.shape()[0], x.shape()[1], x.strides()[0], x.strides()[1], 0};
}

// The product on the device of `out`, in whose memory the operands lie.
inline void matmul_on(const Tensor& out, const MatmulArgs& args) {
  if (run_on_device(out, args)) return;
  check<DeviceError>(!args.preactivation && !args.row_sums, "matmul: the CPU's kernel has no by-products");
  matmul_kernel(args.a, args.b, args.c, args.batch, args.bias, args.bias_dtype, args.epilogue,
                args.accumulate);
}

}  // namespace tandem::detail
