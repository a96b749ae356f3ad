// Products by cuBLAS, in layouts that it takes (ops/products/matmul_driver.h): with everything fused, or in
// steps.
#include "cuda/blas.h"

#include <memory>
#include <optional>
#include <utility>

#include "autograd/error.h"
#include "autograd/kernel.h"
#include "autograd/scope.h"
#include "cuda/matrices.h"
#include "ops/linear_kernel.h"
#include "ops/matmul.h"
#include "ops/products/matmul_driver.h"
#include "ops/products/matmul_kernel.h"

namespace tandem::cuda {
namespace {

using detail::MatmulArgs;
using detail::MatrixBatch;

bool is_plain(const MatmulArgs& p) {
  return !p.bias && p.epilogue == Activation::none && !p.preactivation && !p.row_sums;
}

void run_plain(const MatmulArgs& p) {
  const MatrixBatch &a = p.a, &b = p.b, &c = p.c;
  const BlasOperand left = blas_operand(b), right = blas_operand(a);
  const float one = 1, beta = p.accumulate ? 1 : 0;
  const double one64 = 1, beta64 = beta;
  const bool wide = c.dtype == DType::f64;
  const void *alpha_at = wide ? static_cast<const void*>(&one64) : &one,
             *beta_at = wide ? static_cast<const void*>(&beta64) : &beta;
  const cudaDataType type = blas_type(a.dtype);
  const cublasComputeType_t compute = blas_compute_type(a.dtype);
  void* out = const_cast<void*>(c.data);
  Blas& library = blas();
  const std::lock_guard lock(library.mutex);
  if (p.batch == 1) {
    check_blas(cublasGemmEx_64(library.handle, left.operation, right.operation, c.cols, c.rows, a.cols,
                               alpha_at, b.data, type, left.ld, a.data, type, right.ld, beta_at, out,
                               blas_type(c.dtype), c.row_stride, compute, CUBLAS_GEMM_DEFAULT),
               "cublasGemmEx", p);
  } else {
    check_blas(cublasGemmStridedBatchedEx_64(
                   library.handle, left.operation, right.operation, c.cols, c.rows, a.cols, alpha_at, b.data,
                   type, left.ld, b.batch_stride, a.data, type, right.ld, a.batch_stride, beta_at, out,
                   blas_type(c.dtype), c.row_stride, c.batch_stride, p.batch, compute, CUBLAS_GEMM_DEFAULT),
               "cublasGemmStridedBatchedEx", p);
  }
}

// What the driver needs to know of cuBLAS.
struct Cublas {
  class Memory {
   public:
    void* get(detail::Slot, int64_t bytes) { return held_.emplace(bytes).as<void>(); }

   private:
    std::optional<Scratch> held_;
  };
  static constexpr auto convert = cuda::convert;
  static DType bias_dtype(const MatmulArgs& p) { return p.c.dtype; }
  static bool takes(const MatrixBatch& m, int64_t = 1) {
    return is_row_major(m) || is_row_major(transposed(m)) || m.rows * m.cols == 0;
  }
  static bool takes_output(const MatrixBatch& c, int64_t) { return is_row_major(c); }
  static bool transposes(const MatmulArgs& p) { return is_plain(p); }
  static bool run_without_it(const MatmulArgs&) { return false; }
  static void run(const MatmulArgs& p);
  static void sum_rows(const MatmulArgs& p);
};
using Driver = detail::MatmulDriver<Cublas>;

// sums[i] = the sum of a's row i, a column-major with padding: the columns of a^T, summed as a bias gradient
// is.
void Cublas::sum_rows(const MatmulArgs& p) {
  const MatrixBatch& a = p.a;
  if (a.rows == 0) return;
  if (a.row_stride != 1 && a.rows > 1) {
    Memory memory;
    const MatrixBatch copy = Driver::dense_like(transposed(a), a.dtype, 1, memory, detail::Slot::pack_a);
    convert(transposed(a), copy, 1);
    MatmulArgs column_major = p;
    column_major.a = transposed(copy);
    return sum_rows(column_major);
  }
  const auto sum = [&]<class T>(accumulate_t<T>* sums) {
    detail::LinearSweep<T> sweep{};
    sweep.g = static_cast<const T*>(a.data), sweep.sums = sums;
    sweep.rows = a.cols, sweep.cols = a.rows, sweep.row_stride = a.col_stride;
    device_kernel<detail::LinearSweep<T>>(sweep);
  };
  dispatch_floating("matmul", a.dtype, [&]<class T>() {
    using A = accumulate_t<T>;
    if (p.c.dtype == dtype_of<A>) return sum.template operator()<T>(static_cast<A*>(p.row_sums));
    const Scratch sums(a.rows * size_of(dtype_of<A>));
    sum.template operator()<T>(sums.as<A>());
    convert(detail::dense(sums.as<void>(), dtype_of<A>, 1, a.rows),
            detail::dense(p.row_sums, p.c.dtype, 1, a.rows), 1);
  });
}

// The product, and then what is to be done with it.
void run_in_steps(MatmulArgs p) {
  if (p.row_sums) {
    Cublas::sum_rows(p);
    p.row_sums = nullptr;
    return Driver::run(p);
  }
  if (p.epilogue == Activation::none) {  // a bias
    const void* bias = std::exchange(p.bias, nullptr);
    Driver::run(p);
    return add_row(p.c, bias, p.batch);
  }
  if (p.accumulate) {
    const MatrixBatch target = p.c;
    Cublas::Memory memory;
    const MatrixBatch c = p.c =
        Driver::dense_like(target, target.dtype, p.batch, memory, detail::Slot::pack_c);
    p.accumulate = false;
    Driver::run(p);
    return add(c, target, p.batch);
  }
  const MatrixBatch target = p.c;
  const Activation epilogue = std::exchange(p.epilogue, Activation::none);
  if (p.preactivation) p.c.data = std::exchange(p.preactivation, nullptr);
  Driver::run(p);
  activate(epilogue, p.c, target, p.batch);
}

void Cublas::run(const MatmulArgs& p) {
  if (p.a.cols == 0 && is_plain(p)) {
    if (!p.accumulate) set_zero(p.c, p.batch);
  } else if (is_plain(p)) {
    run_plain(p);
  } else if (p.a.cols == 0 || p.batch > 1 || !run_fused(p)) {
    run_in_steps(p);
  }
}

void matmul_if_fused(const detail::FusedMatmul& fused) {
  MatmulArgs p = fused.args;
  check_matmul(p);
  *fused.done = false;
  if (p.c.rows == 0 || p.c.cols == 0 || p.a.cols == 0) return;
  normalise(p.a, 1), normalise(p.b, 1), normalise(p.c, 1);
  if (!Cublas::takes(p.a) || !Cublas::takes(p.b) || !is_row_major(p.c) ||
      (p.bias && p.bias_dtype != p.c.dtype))
    return;
  const int64_t stride = p.epilogue == Activation::relu ? detail::relu_memo_stride(p.c.cols) : p.c.cols;
  *fused.done = run_fused(p, {fused.memo, stride, fused.backward});
}

const RegisterKernels registered{[] {
  register_kernel(matmul);
  register_kernel(matmul_if_fused);
}};

}  // namespace

void matmul(const MatmulArgs& args) {
  check_matmul(args);
  if (args.batch > 0 && args.c.rows > 0 && args.c.cols > 0) return Driver::run(args);
  if (args.row_sums) Cublas::sum_rows(args);
}

Blas& blas() {
  static Blas* const library = [] {
    auto made = std::make_unique<Blas>();
    const auto check = [](cublasStatus_t status, const char* call) { check_blas(status, call, {}); };
    check(cublasCreate(&made->handle), "cublasCreate");
    check(cublasLtCreate(&made->lt), "cublasLtCreate");
    check(cublasSetStream(made->handle, stream()),
          "cublasSetStream");  // before the workspace, which it resets
    check(cublasSetWorkspace(made->handle, made->workspace.as<void>(), Blas::kWorkspaceBytes),
          "cublasSetWorkspace");
    const int mode = CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    check(cublasSetMathMode(made->handle, static_cast<cublasMath_t>(mode)), "cublasSetMathMode");
    return made.release();  // for the life of the process
  }();
  return *library;
}

void check_blas(cublasStatus_t status, const char* call, const MatmulArgs& args) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  raise<DeviceError>("{}: cuda: {}: {}{}", OpScope::current(), call, cublasGetStatusName(status),
                     args.a.data ? ": " + describe(args) : "");
}

BlasOperand blas_operand(const MatrixBatch& m) {
  if (is_row_major(m)) return {CUBLAS_OP_N, m.cols, m.rows, m.row_stride};
  return {CUBLAS_OP_T, m.rows, m.cols, m.col_stride};
}

cudaDataType blas_type(DType dtype) {
  return dtype == DType::f64 ? CUDA_R_64F : dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

cublasComputeType_t blas_compute_type(DType operands) {
  if (operands == DType::f64) return CUBLAS_COMPUTE_64F;
  return operands == DType::f32 && allow_tf32() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

}  // namespace tandem::cuda
