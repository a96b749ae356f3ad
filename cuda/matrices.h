// Elementwise work on batches of matrices of any strides, by the kernels of the elementwise ops.
#pragma once

#include "ops/products/matmul_args.h"

namespace tandem::cuda {

using detail::MatrixBatch;

// to = from, converting between floating dtypes.
void convert(const MatrixBatch& from, const MatrixBatch& to, int64_t batch);
void set_zero(const MatrixBatch& to, int64_t batch);
// to += from, of the same dtype.
void add(const MatrixBatch& from, const MatrixBatch& to, int64_t batch);
// Every row of `to` += row [cols], dense, of the same dtype.
void add_row(const MatrixBatch& to, const void* row, int64_t batch);
// to = f(from), of the same dtype.
void activate(Activation f, const MatrixBatch& from, const MatrixBatch& to, int64_t batch);

}  // namespace tandem::cuda
