// Matrix products on the device. cuBLAS runs what is a product and nothing else; cuBLASLt runs products with
// something fused to them (bias, activation, by-products) where it has an algorithm. What it has none for is
// done in steps: the product, then elementwise kernels.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <mutex>

#include "cuda/context.h"
#include "ops/products/matmul_args.h"

namespace tandem::cuda {

// See MatmulArgs; all memory is the device's. f32 is multiplied as f32, or as TF32 where allow_tf32() says
// so. Throws as check_matmul, and DeviceError when a library fails.
void matmul(const detail::MatmulArgs& args);

// The libraries of this process, bound to stream(). Their workspace is one block of the caching allocator,
// never given back: so products can be captured into a graph, and come out the same in every run.
struct Blas {
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
  Scratch workspace{kWorkspaceBytes};
  cublasHandle_t handle = nullptr;
  cublasLtHandle_t lt = nullptr;
  std::mutex mutex;  // one caller at a time
};
Blas& blas();

// DeviceError naming the running op, the call, its status and the product, unless the status is a success.
void check_blas(cublasStatus_t status, const char* call, const detail::MatmulArgs& args);

// What both libraries are told: they know column-major matrices only. The row-major c [rows, cols] is the
// column-major c^T = b^T a^T, so b comes first. Operands are row- or column-major.
struct BlasOperand {
  cublasOperation_t operation;  // T: the memory is that of the transposed operand
  int64_t rows, cols, ld;       // of the memory, column-major
};
BlasOperand blas_operand(const detail::MatrixBatch& matrix);
cudaDataType blas_type(DType dtype);
cublasComputeType_t blas_compute_type(DType operands);

// What an activation leaves for its backward (see FusedMatmul); written by the product, or read.
struct Memo {
  void* data = nullptr;
  int64_t stride = 0;  // between rows, in elements or bits
  bool read = false;
};

// Runs the product with all that is fused to it in one call of cuBLASLt; false when there is none for it. One
// matrix each, c row-major, a and b row- or column-major, k > 0, the bias in c's dtype.
bool run_fused(const detail::MatmulArgs& args, const Memo& memo = {});

}  // namespace tandem::cuda
