// Matrix products on raw memory: oneDNN for f32 and bf16, our own loop for f64.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"
#include "ops/detail/gemm_loop.h"

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
// gives act(bias). Strides may be anything for a and b, and anything that does not overlap for c; row- and
// column-major with padding run without a copy when batch is 1, dense ones always. f64 gives the same bits
// for any number of threads; the others to rounding. ShapeError for sizes that do not fit, DTypeError for
// types, DeviceError when the library fails.
void matmul_kernel(const MatrixBatch& a, const MatrixBatch& b, const MatrixBatch& c, int64_t batch,
                   const void* bias = nullptr, DType bias_dtype = DType::f32,
                   Epilogue epilogue = Epilogue::none, bool accumulate = false);

// to[i] = from[i] for i in [0, batch), converting between bf16 and f32 where the types differ.
void copy_matrices(const MatrixBatch& from, const MatrixBatch& to, int64_t batch);

}  // namespace tandem::detail
