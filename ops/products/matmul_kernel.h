// Matrix products on raw memory: oneDNN for f32 and bf16, our own loop for f64.
#pragma once

#include <string>

#include "ops/products/gemm_loop.h"
#include "ops/products/matmul_args.h"

namespace tandem::detail {

// The product on the CPU (without by-products). Row- and column-major operands with padding run without a
// copy when batch is 1, dense ones always. f64 gives the same bits for any number of threads; the others to
// rounding. Throws as check_matmul, and DeviceError when the library fails.
void matmul_kernel(const MatrixBatch& a, const MatrixBatch& b, const MatrixBatch& c, int64_t batch,
                   const void* bias = nullptr, DType bias_dtype = DType::f32,
                   Activation epilogue = Activation::none, bool accumulate = false);

// ShapeError for sizes that do not fit, DTypeError for types that do not go together.
void check_matmul(const MatmulArgs& args);
std::string describe(const MatmulArgs& args);  // "a f32[1,2,3] vs b f32[1,3,4], out f32[1,2,4]"

// to[i] = from[i] for i in [0, batch), converting between bf16 and f32 where the types differ.
void copy_matrices(const MatrixBatch& from, const MatrixBatch& to, int64_t batch);

}  // namespace tandem::detail
