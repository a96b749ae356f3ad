// Tensors as the matrices of ops/detail/matmul_kernel.h.
#pragma once

#include <utility>

#include "autograd/tensor_impl.h"
#include "ops/detail/matmul_kernel.h"

namespace tandem::detail {

// x [..., k] of all passes as one matrix [rows, k] of one pass (recorded); a view where strides allow.
inline Tensor fold_rows(const Tensor& x) {
  int64_t rows = x.passes();
  for (int i = 0; i + 1 < x.dim(); ++i) rows *= x.shape()[i];
  return (x.passes() > 1 ? x.passes_as_batch() : x).reshape({rows, x.shape().back()});
}

// A tensor [rows, cols] of one pass.
inline MatrixBatch as_matrix(const Tensor& x) {
  return {x.raw(), x.dtype(), x.shape()[0], x.shape()[1], x.strides()[0], x.strides()[1], 0};
}
inline MatrixBatch transposed(MatrixBatch m) {
  std::swap(m.rows, m.cols);
  std::swap(m.row_stride, m.col_stride);
  return m;
}

}  // namespace tandem::detail
