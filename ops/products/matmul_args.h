// Arguments of a matrix product, for the CPU (matmul_kernel.h) and for CUDA (cuda/blas.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "autograd/dtype.h"
#include "ops/products/activation.h"

namespace tandem::detail {

// A batch of matrices; strides count elements. batch_stride 0: one matrix shared by the whole batch.
struct MatrixBatch {
  const void* data;
  DType dtype;
  int64_t rows, cols, row_stride, col_stride, batch_stride;
};

// c[i] = act(a[i] @ b[i] + bias) (+ c[i] if accumulate) for i in [0, batch)
//
// a [rows, k], b [k, cols], c [rows, cols] (written through its data pointer; must not overlap a, b or bias
// or itself); bias [cols], dense, or null; bias_dtype f32 or bf16, f64 for f64. a and b: both f32, both bf16
// or both f64; c: f32 or bf16 (f64 for f64); sums are made in f32 (f64 for f64). Every size may be 0; k = 0
// gives act(bias). Strides may be anything for a and b, and anything that does not overlap for c.
struct MatmulArgs {
  MatrixBatch a, b, c;
  int64_t batch = 1;
  const void* bias = nullptr;
  DType bias_dtype = DType::f32;
  Activation epilogue = Activation::none;
  bool accumulate = false;
  // By-products of one product (batch 1, not accumulated), on devices only; each null or
  void* preactivation = nullptr;  // receives a @ b + bias, in c's dtype and strides
  void* row_sums = nullptr;       // receives the sums of a's rows [rows], dense, in c's dtype
};

// A product (batch 1, not accumulated) that is run only where one call of a library does all of it, on
// devices:
//   forward    c = f(a @ b + bias), and `memo` receives what f's derivative needs
//   backward   c = (a @ b) * f'(z), with the memo that a forward of the same sizes wrote
// f is args.epilogue, relu or gelu_tanh. The memo is the library's own: for relu a bit for each element of c,
// rows relu_memo_stride(c.cols) bits apart; for gelu_tanh z in c's dtype, dense.
struct FusedMatmul {
  MatmulArgs args;
  void* memo = nullptr;
  bool backward = false;
  bool* done = nullptr;  // whether it was run
};
constexpr int64_t relu_memo_stride(int64_t cols) { return (cols + 127) / 128 * 128; }

inline MatrixBatch transposed(MatrixBatch m) {
  std::swap(m.rows, m.cols);
  std::swap(m.row_stride, m.col_stride);
  return m;
}
inline MatrixBatch dense(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, dtype, rows, cols, std::max<int64_t>(cols, 1), 1, rows * cols};
}
inline bool is_row_major(const MatrixBatch& m) { return m.col_stride == 1 && m.row_stride >= m.cols; }

// A stride along a size of 1 is never used: give it the value that makes the matrix row-major where possible.
inline void normalise(MatrixBatch& m, int64_t batch) {
  if (m.cols == 1) {
    if (m.rows == 1 || m.row_stride >= 1) m.col_stride = 1;
  }
  if (m.rows == 1) {
    if (m.col_stride == 1)
      m.row_stride = m.cols;
    else
      m.row_stride = 1;
  }
  if (batch == 1) m.batch_stride = 0;
}

// [batch, rows, k] @ one shared [k, cols] is one product of batch * rows rows when the rows of a and c go on
// with the same stride across the batch.
inline void collapse(MatmulArgs& p) {
  const auto runs_on = [](const MatrixBatch& m) { return m.batch_stride == m.rows * m.row_stride; };
  if (p.batch == 1 || p.b.batch_stride != 0 || !runs_on(p.a) || !runs_on(p.c)) return;
  p.a.rows *= p.batch;
  p.c.rows *= p.batch;
  p.a.batch_stride = p.c.batch_stride = 0;
  p.batch = 1;
}

}  // namespace tandem::detail
