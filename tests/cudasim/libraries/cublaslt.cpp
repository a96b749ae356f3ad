// The used subset of cuBLASLt. Descriptors live in the caller's memory, as in the real one. The heuristic
// gives one algorithm, which remembers the problem it was asked for: running it on another one, on pointers
// that are less aligned, or with less workspace fails.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "libraries/cublas_gemm.h"
#include "sim.h"

struct cublasLtContext {};

namespace {

using namespace cudasim;

constexpr uint64_t kDescMagic = 0x6c74446573630001, kLayoutMagic = 0x6c744c6179000002,
                   kPreferenceMagic = 0x6c74507265660003, kAlgoMagic = 0x6c74416c676f0004;

struct Desc {
  uint64_t magic = kDescMagic;
  int32_t compute = 0, scale = 0, pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_ld = 0;
  int32_t bias_type = -1, aux_type = -1;  // -1: as the output
};
struct Layout {
  uint64_t magic = kLayoutMagic;
  uint32_t type = 0;
  int32_t batch = 1;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0, stride = 0;
};
struct Preference {
  uint64_t magic = kPreferenceMagic, workspace = 0;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};
struct Algo {
  uint64_t magic = kAlgoMagic, problem = 0, workspace = 0;
  uint8_t align_a = 0, align_b = 0, align_c = 0, align_d = 0, align_bias = 0, align_aux = 0;
};
static_assert(sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));
static_assert(sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t));

cublasStatus_t not_simulated(const std::string& what) {
  report("not simulated", what);
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

// The struct in a caller's memory; null, and a report, where it was never initialised.
template <class T> T* opened(const void* opaque, uint64_t magic, const char* what) {
  T* found = static_cast<T*>(const_cast<void*>(opaque));
  if (found && found->magic == magic) return found;
  report("gemm", std::string("cublasLt: ") + what + " was not initialised");
  return nullptr;
}
Desc* opened(cublasLtMatmulDesc_t desc) { return opened<Desc>(desc, kDescMagic, "a matmul descriptor"); }
Layout* opened(cublasLtMatrixLayout_t x) { return opened<Layout>(x, kLayoutMagic, "a matrix layout"); }

template <class T> cublasStatus_t initialise(void* memory, size_t size, size_t needed, const T& value) {
  if (size < needed) return CUBLAS_STATUS_ALLOC_FAILED;
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(memory, &value, sizeof value);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T> cublasStatus_t set(T& field, const void* value, size_t size) {
  if (!value || size != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, size);
  return CUBLAS_STATUS_SUCCESS;
}

struct Problem {
  Desc desc;
  Layout a, b, c, d;
  int64_t m = 0, n = 0, k = 0;
};

bool has(const Problem& p, uint32_t bits) { return (p.desc.epilogue & bits) == bits; }
constexpr uint32_t kAux = 128, kBiasGradient = 16;
bool uses_bias(const Problem& p) {
  return has(p, CUBLASLT_EPILOGUE_BIAS) || has(p, kBiasGradient) || has(p, CUBLASLT_EPILOGUE_BGRADA) ||
         has(p, CUBLASLT_EPILOGUE_BGRADB);
}

bool is_known_epilogue(uint32_t epilogue) {
  constexpr uint32_t known[] = {
      CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_RELU,      CUBLASLT_EPILOGUE_RELU_AUX,
      CUBLASLT_EPILOGUE_BIAS,     CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
      CUBLASLT_EPILOGUE_DRELU,    CUBLASLT_EPILOGUE_GELU,      CUBLASLT_EPILOGUE_DRELU_BGRAD,
      CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
      CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_BGRADA,    CUBLASLT_EPILOGUE_DGELU_BGRAD,
      CUBLASLT_EPILOGUE_BGRADB};
  return std::find(std::begin(known), std::end(known), epilogue) != std::end(known);
}

// Types of the documentation's table, of those that are simulated.
cublasStatus_t check_types(const Problem& p) {
  const auto is = [&](cudaDataType in, cudaDataType out, cudaDataType scale) {
    return p.a.type == in && p.b.type == in && p.d.type == out && p.c.type == out && p.desc.scale == scale;
  };
  switch (p.desc.compute) {
    case CUBLAS_COMPUTE_64F:
      return is(CUDA_R_64F, CUDA_R_64F, CUDA_R_64F) && p.desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT
                 ? CUBLAS_STATUS_SUCCESS
                 : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return is(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLAS_COMPUTE_32F:
      if (is(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F) || is(CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F) ||
          is(CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F))
        return CUBLAS_STATUS_SUCCESS;
      if (p.a.type == CUDA_R_16F || p.a.type == CUDA_R_8I)
        return not_simulated("cublasLt: products of f16 or i8");
      return CUBLAS_STATUS_NOT_SUPPORTED;
    default:
      return not_simulated("cublasLt: compute type " + std::to_string(p.desc.compute));
  }
}

// An epilogue's operands are of the output's type.
cublasStatus_t check_epilogue(const Problem& p) {
  if (!is_known_epilogue(p.desc.epilogue)) return CUBLAS_STATUS_INVALID_VALUE;
  const auto type = static_cast<int32_t>(p.d.type);
  if (uses_bias(p) && p.desc.bias_type != -1 && p.desc.bias_type != type) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!has(p, kAux)) return CUBLAS_STATUS_SUCCESS;
  const bool mask = has(p, CUBLASLT_EPILOGUE_RELU) || has(p, CUBLASLT_EPILOGUE_DRELU);
  if (p.desc.aux_ld < p.m || p.desc.aux_ld % (mask ? 128 : 8) != 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (!mask && p.desc.aux_type != -1 && p.desc.aux_type != type) return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_layouts(Problem& p) {
  const auto is_operation = [](int32_t op) {
    return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C;
  };
  if (!is_operation(p.desc.transpose_a) || !is_operation(p.desc.transpose_b))
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* x : {&p.a, &p.b, &p.c, &p.d}) {
    if (x->rows == 0 || x->cols == 0 || x->ld < static_cast<int64_t>(x->rows))
      return CUBLAS_STATUS_INVALID_VALUE;
    if (x->batch != 1) return not_simulated("cublasLtMatmul: batches");
  }
  const bool ta = p.desc.transpose_a != CUBLAS_OP_N, tb = p.desc.transpose_b != CUBLAS_OP_N;
  const uint64_t k = ta ? p.a.rows : p.a.cols;
  p.m = static_cast<int64_t>(p.d.rows), p.n = static_cast<int64_t>(p.d.cols), p.k = static_cast<int64_t>(k);
  if ((ta ? p.a.cols : p.a.rows) != p.d.rows || (tb ? p.b.rows : p.b.cols) != p.d.cols ||
      (tb ? p.b.cols : p.b.rows) != k || p.c.rows != p.d.rows || p.c.cols != p.d.cols)
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

// Everything that can be told without the operands.
cublasStatus_t check(Problem& p) {
  if (const cublasStatus_t status = check_layouts(p)) return status;
  if (const cublasStatus_t status = check_types(p)) return status;
  if (p.desc.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
    return not_simulated("cublasLt: alpha and beta on the device");
  return check_epilogue(p);
}

uint8_t alignment(const void* p, uintptr_t most = 16) {  // in bytes, as far as any kernel cares
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) | most;
  return static_cast<uint8_t>(address & (~address + 1));
}
// Of an epilogue's operands no preference tells it, so an algorithm may be for what they had when it was
// asked.
uint8_t epilogue_alignment(const void* p) { return alignment(p, 128); }

uint64_t hash(const Problem& p) {
  uint64_t result = 1469598103934665603u;
  const auto add = [&](auto value) { result = (result ^ static_cast<uint64_t>(value)) * 1099511628211u; };
  for (const Layout* x : {&p.a, &p.b, &p.c, &p.d}) add(x->type), add(x->rows), add(x->cols), add(x->ld);
  add(p.desc.compute), add(p.desc.transpose_a), add(p.desc.transpose_b), add(p.desc.epilogue),
      add(p.desc.aux_ld);
  return result;
}

// Long sums are split, and meet in the workspace.
uint64_t workspace_for(const Problem& p, const Preference& preference) {
  const auto split = static_cast<uint64_t>(2 * p.m * p.n * 4);
  const bool allowed = preference.reduction_schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  return p.k > 4 * std::max(p.m, p.n) && allowed && split <= preference.workspace ? split : 0;
}

cublasStatus_t open(Problem& p, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  Layout* const layouts[] = {opened(a), opened(b), opened(c), opened(d)};
  const Desc* opened_desc = opened(desc);
  if (!opened_desc || std::find(std::begin(layouts), std::end(layouts), nullptr) != std::end(layouts))
    return CUBLAS_STATUS_INVALID_VALUE;
  p = {*opened_desc, *layouts[0], *layouts[1], *layouts[2], *layouts[3]};
  return check(p);
}

GemmMatrix matrix(const Layout& x, const void* data) {
  return {const_cast<void*>(data),
          static_cast<cudaDataType>(x.type),
          static_cast<int64_t>(x.rows),
          static_cast<int64_t>(x.cols),
          x.ld,
          x.stride};
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  Desc value;
  value.compute = compute, value.scale = scale;
  return initialise(desc, size, sizeof(cublasLtMatmulDescOpaque_t), value);
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  Layout value;
  value.type = type, value.rows = rows, value.cols = cols, value.ld = ld;
  return initialise(layout, size, sizeof(cublasLtMatrixLayoutOpaque_t), value);
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t size) {
  return initialise(preference, size, sizeof(cublasLtMatmulPreferenceOpaque_t), Preference());
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t size) {
  Desc* desc = opened(opaque);
  if (!desc) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return set(desc->pointer_mode, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(desc->transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(desc->transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(desc->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(desc->bias, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return set(desc->bias_type, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return set(desc->aux, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return set(desc->aux_ld, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
      return set(desc->aux_type, value, size);
    default:
      return not_simulated("cublasLtMatmulDescSetAttribute: attribute " + std::to_string(attribute));
  }
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t size) {
  auto* preference = opened<Preference>(opaque, kPreferenceMagic, "a matmul preference");
  if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(preference->reduction_schemes, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return set(preference->align_a, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return set(preference->align_b, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return set(preference->align_c, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference->align_d, value, size);
    default:
      return not_simulated("cublasLtMatmulPreferenceSetAttribute: attribute " + std::to_string(attribute));
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t opaque, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0 || !results || !returned) return CUBLAS_STATUS_INVALID_VALUE;
  *returned = 0;
  const auto* preference = opened<Preference>(opaque, kPreferenceMagic, "a matmul preference");
  if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
  Problem p;
  if (const cublasStatus_t status = open(p, desc, a, b, c, d)) return status;
  if (has(p, kAux) && alignment(p.desc.aux) < 16) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto at_most_16 = [](uint32_t bytes) { return static_cast<uint8_t>(std::min(bytes, 16u)); };
  Algo algo;
  algo.problem = hash(p);
  algo.workspace = workspace_for(p, *preference);
  algo.align_a = at_most_16(preference->align_a), algo.align_b = at_most_16(preference->align_b);
  algo.align_c = at_most_16(preference->align_c), algo.align_d = at_most_16(preference->align_d);
  if (uses_bias(p)) algo.align_bias = epilogue_alignment(p.desc.bias);
  if (has(p, kAux)) algo.align_aux = epilogue_alignment(p.desc.aux);
  results[0] = {};
  std::memcpy(&results[0].algo, &algo, sizeof algo);
  results[0].workspaceSize = algo.workspace;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                              cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                              cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t* opaque, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  Problem p;
  if (const cublasStatus_t status = open(p, desc, layout_a, layout_b, layout_c, layout_d)) return status;
  if (!alpha || !beta || !a || !b || !d) return CUBLAS_STATUS_INVALID_VALUE;
  if (is_device_pointer(alpha) || is_device_pointer(beta)) {
    report("host pointer expected", "cublasLtMatmul: alpha or beta is on the device");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!opaque) return not_simulated("cublasLtMatmul: without an algorithm");
  const bool wide = p.desc.scale == CUDA_R_64F;
  const auto number = [wide](const void* x) {
    return wide ? *static_cast<const double*>(x) : double{*static_cast<const float*>(x)};
  };
  if (number(beta) != 0 && !c) return CUBLAS_STATUS_INVALID_VALUE;
  if (c == d && p.c.ld != p.d.ld) return CUBLAS_STATUS_INVALID_VALUE;  // in place, but elsewhere
  if ((uses_bias(p) && !p.desc.bias) || (has(p, kAux) && !p.desc.aux)) return CUBLAS_STATUS_INVALID_VALUE;

  const auto* algo = opened<Algo>(opaque, kAlgoMagic, "an algorithm");
  if (!algo) return CUBLAS_STATUS_INVALID_VALUE;
  if (algo->problem != hash(p)) {
    report("gemm", "cublasLtMatmul: the algorithm was made for another problem");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool aligned = alignment(a) >= algo->align_a && alignment(b) >= algo->align_b &&
                       (number(beta) == 0 || alignment(c) >= algo->align_c) &&
                       alignment(d) >= algo->align_d &&
                       (!uses_bias(p) || epilogue_alignment(p.desc.bias) >= algo->align_bias) &&
                       (!has(p, kAux) || epilogue_alignment(p.desc.aux) >= algo->align_aux);
  if (!aligned) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes < algo->workspace || alignment(workspace) < 16) return CUBLAS_STATUS_INVALID_VALUE;

  Gemm gemm{.call = "cublasLtMatmul",
            .m = p.m,
            .n = p.n,
            .k = p.k,
            .transpose_a = p.desc.transpose_a != CUBLAS_OP_N,
            .transpose_b = p.desc.transpose_b != CUBLAS_OP_N,
            .tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32,
            .alpha = number(alpha),
            .beta = number(beta),
            .a = matrix(p.a, a),
            .b = matrix(p.b, b),
            .c = matrix(p.c, c),
            .d = matrix(p.d, d),
            .epilogue = static_cast<cublasLtEpilogue_t>(p.desc.epilogue)};
  gemm.bias = p.desc.bias, gemm.aux = p.desc.aux, gemm.aux_ld = p.desc.aux_ld;
  gemm.workspace = workspace, gemm.workspace_bytes = static_cast<int64_t>(algo->workspace);
  return enqueue(stream, "cublasLtMatmul", [gemm] { run_gemm(gemm); }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
