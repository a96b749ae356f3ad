// The used subset of cuBLAS. Arguments are checked in the order and with the statuses that its documentation
// gives; what the real library accepts but nothing here computes is reported, and never succeeds.
#include <cublas_v2.h>

#include <algorithm>
#include <string>

#include "libraries/cublas_gemm.h"
#include "sim.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;  // null: the library's own
  size_t workspace_bytes = 0;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

namespace {

using namespace cudasim;

cublasStatus_t not_simulated(const std::string& what) {
  report("not simulated", what);
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

bool is_operation(cublasOperation_t op) {
  return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C;
}

// The types that go with a compute type, of those that are simulated.
cublasStatus_t check_types(cudaDataType a, cudaDataType b, cudaDataType c, cublasComputeType_t compute) {
  const auto is = [&](cudaDataType inputs, cudaDataType output) {
    return a == inputs && b == inputs && c == output;
  };
  switch (compute) {
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return is(CUDA_R_64F, CUDA_R_64F) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return is(CUDA_R_32F, CUDA_R_32F) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      if (is(CUDA_R_32F, CUDA_R_32F) || is(CUDA_R_16BF, CUDA_R_16BF) || is(CUDA_R_16BF, CUDA_R_32F))
        return CUBLAS_STATUS_SUCCESS;
      if (is(CUDA_R_16F, CUDA_R_16F) || is(CUDA_R_16F, CUDA_R_32F) || is(CUDA_R_8I, CUDA_R_32F))
        return not_simulated("cublasGemm*Ex: products of f16 or i8");
      return CUBLAS_STATUS_NOT_SUPPORTED;
    default:
      return not_simulated("cublasGemm*Ex: compute type " + std::to_string(compute));
  }
}

struct Call {
  const char* name;
  cublasHandle_t handle;
  cublasOperation_t op_a, op_b;
  int64_t m, n, k, batch;
  const void *alpha, *beta;
  GemmMatrix a, b, c;  // stored sizes are still to be filled in
  cublasComputeType_t compute;
  cublasGemmAlgo_t algo;
};

cublasStatus_t check_arguments(const Call& call) {
  if (!call.handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (std::min({call.m, call.n, call.k, call.batch}) < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_operation(call.op_a) || !is_operation(call.op_b)) return CUBLAS_STATUS_INVALID_VALUE;
  const int64_t one = 1, rows_a = call.op_a == CUBLAS_OP_N ? call.m : call.k,
                rows_b = call.op_b == CUBLAS_OP_N ? call.k : call.n;
  if (call.a.ld < std::max(one, rows_a) || call.b.ld < std::max(one, rows_b) ||
      call.c.ld < std::max(one, call.m))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!call.alpha || !call.beta) return CUBLAS_STATUS_INVALID_VALUE;
  if (is_device_pointer(call.alpha) || is_device_pointer(call.beta)) {
    report("host pointer expected", std::string(call.name) + ": alpha or beta is on the device");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (call.algo != CUBLAS_GEMM_DEFAULT && call.algo != CUBLAS_GEMM_DEFAULT_TENSOR_OP)
    return not_simulated(std::string(call.name) + ": algorithm " + std::to_string(call.algo));
  return check_types(call.a.type, call.b.type, call.c.type, call.compute);
}

cublasStatus_t run(const Call& call) {
  if (const cublasStatus_t status = check_arguments(call)) return status;
  const bool wide = call.c.type == CUDA_R_64F, transpose_a = call.op_a != CUBLAS_OP_N,
             transpose_b = call.op_b != CUBLAS_OP_N;
  const auto number = [&](const void* p) {
    return wide ? *static_cast<const double*>(p) : double{*static_cast<const float*>(p)};
  };
  Gemm gemm{.call = call.name,
            .m = call.m,
            .n = call.n,
            .k = call.k,
            .batch = call.batch,
            .transpose_a = transpose_a,
            .transpose_b = transpose_b,
            .alpha = number(call.alpha),
            .beta = number(call.beta),
            .a = call.a,
            .b = call.b,
            .c = call.c,
            .d = call.c,
            .epilogue = static_cast<cublasLtEpilogue_t>(0)};  // none of cuBLASLt's
  gemm.tf32 = call.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
              (call.compute == CUBLAS_COMPUTE_32F && call.handle->math == CUBLAS_TF32_TENSOR_OP_MATH);
  gemm.a.rows = transpose_a ? call.k : call.m, gemm.a.cols = transpose_a ? call.m : call.k;
  gemm.b.rows = transpose_b ? call.n : call.k, gemm.b.cols = transpose_b ? call.k : call.n;
  gemm.c.rows = gemm.d.rows = call.m, gemm.c.cols = gemm.d.cols = call.n;
  gemm.workspace = call.handle->workspace;
  gemm.workspace_bytes = static_cast<int64_t>(call.handle->workspace_bytes);
  return enqueue(call.handle->stream, call.name, [gemm] { run_gemm(gemm); }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

// As in the real one, a new stream brings the library's own workspace back.
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  handle->workspace = nullptr;
  handle->workspace_bytes = 0;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  const int flags = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  if (flags != CUBLAS_DEFAULT_MATH && flags != CUBLAS_PEDANTIC_MATH && flags != CUBLAS_TF32_TENSOR_OP_MATH)
    return not_simulated("cublasSetMathMode: mode " + std::to_string(mode));
  handle->math = static_cast<cublasMath_t>(flags);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  return mode == CUBLAS_POINTER_MODE_HOST
             ? CUBLAS_STATUS_SUCCESS
             : not_simulated("cublasSetPointerMode: alpha and beta on the device");
}

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
      return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR:
      return "CUBLAS_STATUS_LICENSE_ERROR";
    default:
      return "an unknown cublasStatus_t";
  }
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                               int64_t m, int64_t n, int64_t k, const void* alpha, const void* a,
                               cudaDataType type_a, int64_t lda, const void* b, cudaDataType type_b,
                               int64_t ldb, const void* beta, void* c, cudaDataType type_c, int64_t ldc,
                               cublasComputeType_t compute, cublasGemmAlgo_t algo) {
  return run({"cublasGemmEx_64",
              handle,
              op_a,
              op_b,
              m,
              n,
              k,
              1,
              alpha,
              beta,
              {.data = const_cast<void*>(a), .type = type_a, .ld = lda},
              {.data = const_cast<void*>(b), .type = type_b, .ld = ldb},
              {.data = c, .type = type_c, .ld = ldc},
              compute,
              algo});
}

cublasStatus_t cublasGemmStridedBatchedEx_64(
    cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
    const void* alpha, const void* a, cudaDataType type_a, int64_t lda, long long stride_a, const void* b,
    cudaDataType type_b, int64_t ldb, long long stride_b, const void* beta, void* c, cudaDataType type_c,
    int64_t ldc, long long stride_c, int64_t batch, cublasComputeType_t compute, cublasGemmAlgo_t algo) {
  return run({"cublasGemmStridedBatchedEx_64",
              handle,
              op_a,
              op_b,
              m,
              n,
              k,
              batch,
              alpha,
              beta,
              {.data = const_cast<void*>(a), .type = type_a, .ld = lda, .stride = stride_a},
              {.data = const_cast<void*>(b), .type = type_b, .ld = ldb, .stride = stride_b},
              {.data = c, .type = type_c, .ld = ldc, .stride = stride_c},
              compute,
              algo});
}

}  // extern "C"
