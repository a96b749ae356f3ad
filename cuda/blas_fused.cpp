// cuBLASLt: a plan (descriptors and algorithm) is made once for each problem, by its shapes, layouts, types,
// epilogue and alignments, and kept. A problem that the library has no algorithm for is remembered as such.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <optional>

#include "autograd/error.h"
#include "cuda/blas.h"
#include "cuda/note.h"
#include "ops/matmul.h"
#include "ops/products/matmul_kernel.h"

namespace tandem::cuda {
namespace {

using detail::MatmulArgs;

constexpr size_t kMostPlans = 4096;  // then all are forgotten: shapes that never come back would pile up

// The epilogue that does all that is asked for.
std::optional<cublasLtEpilogue_t> epilogue_of(const MatmulArgs& p, const Memo& memo) {
  const bool bias = p.bias, writes = memo.data && !memo.read;
  if (p.row_sums) {
    const bool alone = !bias && !memo.data && p.epilogue == Activation::none && !p.accumulate;
    return alone ? std::optional(CUBLASLT_EPILOGUE_BGRADB) : std::nullopt;
  }
  if (p.accumulate && p.epilogue != Activation::none) return {};  // the library adds c before it activates
  switch (p.epilogue) {
    case Activation::none:
      if (memo.data) return {};
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case Activation::relu:
      if (memo.read) return bias ? std::nullopt : std::optional(CUBLASLT_EPILOGUE_DRELU);
      if (writes) return bias ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS : CUBLASLT_EPILOGUE_RELU_AUX;
      return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::gelu_tanh:  // the library's GELU
      if (memo.read) return bias ? std::nullopt : std::optional(CUBLASLT_EPILOGUE_DGELU);
      if (writes) return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case Activation::gelu:
      return {};
  }
  return {};
}

// The largest power of two that divides an address, up to what any kernel asks for.
uint32_t alignment(const void* address) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(address) | 256;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// In one number.
int64_t alignments(std::initializer_list<const void*> addresses) {
  int64_t all = 0;
  for (const void* address : addresses) all = all << 12 | alignment(address);
  return all;
}

// The vector that goes with the epilogue: a bias is read, row sums are written.
const void* vector_of(const MatmulArgs& p) { return p.row_sums ? p.row_sums : p.bias; }

struct Plan {
  bool usable = false;
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cublasLtMatmulAlgo_t algo;
};

template <class T>
void set(Plan& plan, cublasLtMatmulDescAttributes_t attribute, const T& value, const MatmulArgs& p) {
  check_blas(cublasLtMatmulDescSetAttribute(&plan.desc, attribute, &value, sizeof value),
             "cublasLtMatmulDescSetAttribute", p);
}

void set_pointers(Plan& plan, const MatmulArgs& p, const Memo& memo) {
  if (const void* vector = vector_of(p)) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector, p);
  if (memo.data) set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, memo.data, p);
}

void describe_problem(Plan& plan, const MatmulArgs& p, const Memo& memo, cublasLtEpilogue_t epilogue) {
  const BlasOperand a = blas_operand(p.b), b = blas_operand(p.a);
  const cudaDataType type = blas_type(p.a.dtype);
  check_blas(cublasLtMatmulDescInit(&plan.desc, blas_compute_type(p.a.dtype), CUDA_R_32F),
             "cublasLtMatmulDescInit", p);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, a.operation, p);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, b.operation, p);
  set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue, p);
  if (memo.data) set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, memo.stride, p);
  set_pointers(plan, p, memo);
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& made, cudaDataType dtype, int64_t rows, int64_t cols,
                          int64_t ld) {
    check_blas(
        cublasLtMatrixLayoutInit(&made, dtype, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
        "cublasLtMatrixLayoutInit", p);
  };
  layout(plan.a, type, a.rows, a.cols, a.ld);
  layout(plan.b, type, b.rows, b.cols, b.ld);
  layout(plan.c, blas_type(p.c.dtype), p.c.cols, p.c.rows, p.c.row_stride);
}

void find_algorithm(Plan& plan, const MatmulArgs& p) {
  cublasLtMatmulPreferenceOpaque_t preference;
  check_blas(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute", p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{Blas::kWorkspaceBytes});
  // Parts of a sum meet in f32, whatever the output's type.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c.data));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      blas().lt, &plan.desc, &plan.a, &plan.b, &plan.c, &plan.c, &preference, 1, &result, &found);
  // Versions differ in how they say that they have no algorithm: not supported, an invalid value, another
  // architecture.
  plan.usable = status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  plan.algo = result.algo;
  if (!plan.usable)
    note("cublasLtMatmulAlgoGetHeuristic: {}, {} algorithms: {}", cublasGetStatusName(status), found,
         describe(p));
}

Plan& plan_for(const MatmulArgs& p, const Memo& memo, cublasLtEpilogue_t epilogue) {
  const BlasOperand a = blas_operand(p.b), b = blas_operand(p.a);
  using Key = std::array<int64_t, 13>;
  const Key key{p.c.rows,
                p.c.cols,
                p.a.cols,
                a.operation,
                b.operation,
                a.ld,
                b.ld,
                p.c.row_stride,
                epilogue,
                static_cast<int64_t>(p.a.dtype) << 8 | static_cast<int64_t>(p.c.dtype),
                blas_compute_type(p.a.dtype),
                alignments({p.a.data, p.b.data, p.c.data, vector_of(p), memo.data}),
                memo.stride};
  static std::map<Key, Plan> plans;
  if (const auto found = plans.find(key); found != plans.end()) return found->second;
  if (plans.size() >= kMostPlans) plans.clear();
  Plan& plan = plans[key];  // where it stays: descriptors are made in place
  try {
    describe_problem(plan, p, memo, epilogue);
    find_algorithm(plan, p);
  } catch (...) {
    plans.erase(key);
    throw;
  }
  return plan;
}

}  // namespace

bool run_fused(const MatmulArgs& p, const Memo& given) {
  const Memo memo = p.preactivation ? Memo{p.preactivation, p.c.row_stride} : given;
  // z may be wanted by others, too; only the library's gelu keeps it.
  if (p.a.dtype == DType::f64 || (p.preactivation && p.epilogue != Activation::gelu_tanh)) return false;
  const std::optional<cublasLtEpilogue_t> epilogue = epilogue_of(p, memo);
  if (!epilogue || (p.epilogue == Activation::gelu_tanh && memo.data && memo.stride % 8 != 0)) return false;
  // Libraries have read a bias of less alignment as vectors all the same
  // (github.com/pytorch/pytorch/issues/194497).
  for (const void* data : {vector_of(p), static_cast<const void*>(memo.data)})
    if (data && alignment(data) < 16) return false;
  Blas& library = blas();
  const std::lock_guard lock(library.mutex);
  Plan& plan = plan_for(p, memo, *epilogue);
  if (!plan.usable) return false;
  set_pointers(plan, p, memo);
  const float one = 1, beta = p.accumulate ? 1 : 0;
  void* c = const_cast<void*>(p.c.data);
  const cublasStatus_t status =
      cublasLtMatmul(library.lt, &plan.desc, &one, p.b.data, &plan.a, p.a.data, &plan.b, &beta, c, &plan.c, c,
                     &plan.c, &plan.algo, library.workspace.as<void>(), Blas::kWorkspaceBytes, stream());
  if (status == CUBLAS_STATUS_EXECUTION_FAILED) check_blas(status, "cublasLtMatmul", p);
  plan.usable = status == CUBLAS_STATUS_SUCCESS;  // else it has taken nothing up, and steps do it
  if (!plan.usable) note("cublasLtMatmul: {}: {}", cublasGetStatusName(status), describe(p));
  return plan.usable;
}

}  // namespace tandem::cuda
