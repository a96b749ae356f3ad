// The simulated cuBLASLt: every epilogue against f64 on the host, statuses as documented, misuse reported.
#include <array>
#include <functional>

#include "cublas_util.h"

using namespace cudasim;

namespace {

struct Lt {
  Lt() { REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
  ~Lt() { cublasLtDestroy(handle); }
  cublasLtHandle_t handle = nullptr;
};

// D [m, n] = op(A) op(B) with an epilogue; every part may be changed before it is run.
struct Product {
  Product(cudaDataType in, cudaDataType out, int64_t m, int64_t n, int64_t k, cublasLtEpilogue_t epilogue)
      : epilogue(epilogue),
        a(in, k, m),
        b(in, k, n),
        d(out, m, n, 8),
        aux(out, m + (8 - m % 8) % 8, n),
        mask(CUDA_R_16BF, 128 / 16 * n),
        vector(out, std::max(m, n)),
        workspace(CUDA_R_32F, 1 << 20),
        m(m),
        n(n),
        k(k) {
    std::mt19937 random(7);
    a.fill(random), b.fill(random);
  }

  void prepare(cublasComputeType_t compute = CUBLAS_COMPUTE_32F, cudaDataType scale = CUDA_R_32F) {
    REQUIRE(cublasLtMatmulDescInit(&desc, compute, scale) == CUBLAS_STATUS_SUCCESS);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    const bool bits = epilogue & (CUBLASLT_EPILOGUE_RELU | 8);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector.at());
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, bits ? mask.at() : aux.device.at());
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, bits ? int64_t{128} : aux.ld);
    layout(layout_a, a), layout(layout_b, b), layout(layout_d, d);
    REQUIRE(cublasLtMatmulPreferenceInit(&preference) == CUBLAS_STATUS_SUCCESS);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace.bytes()});
  }
  template <class T> void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    REQUIRE(cublasLtMatmulDescSetAttribute(&desc, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS);
  }
  template <class T> void prefer(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    REQUIRE(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value) ==
            CUBLAS_STATUS_SUCCESS);
  }
  static void layout(cublasLtMatrixLayoutOpaque_t& made, const Matrix& x) {
    REQUIRE(cublasLtMatrixLayoutInit(&made, x.type, uint64_t(x.rows), uint64_t(x.cols), x.ld) ==
            CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t find() {
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        lt.handle, &desc, &layout_a, &layout_b, &layout_d, &layout_d, &preference, 1, &result, &found);
    CHECK(found == (status == CUBLAS_STATUS_SUCCESS ? 1 : 0));
    return status;
  }
  cublasStatus_t run(float beta = 0) {
    const float one = 1;
    return cublasLtMatmul(lt.handle, &desc, &one, a.device.at(), &layout_a, b.device.at(), &layout_b, &beta,
                          d.device.at(), &layout_d, d.device.at(), &layout_d, &result.algo, workspace.at(),
                          workspace.bytes(), nullptr);
  }
  double sum(int64_t i, int64_t j) const {
    double result = 0;
    for (int64_t p = 0; p < k; ++p) result += a(p, i) * b(p, j);
    return result;
  }

  Lt lt;
  cublasLtEpilogue_t epilogue;
  Matrix a, b, d, aux;
  Buffer mask, vector, workspace;
  int64_t m, n, k;
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t layout_a, layout_b, layout_d;
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t result;
};

double gelu(double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }

struct Types {
  cudaDataType in, out;
};
constexpr Types kTypes[] = {{CUDA_R_32F, CUDA_R_32F}, {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F}};
constexpr int64_t M = 13, N = 6, K = 9;

std::vector<double> each(const std::function<double(int64_t, int64_t)>& f) {
  std::vector<double> values;
  for (int64_t j = 0; j < N; ++j)
    for (int64_t i = 0; i < M; ++i) values.push_back(f(i, j));
  return values;
}
std::vector<double> bias_values(cudaDataType type) {
  std::vector<double> bias;
  for (int64_t i = 0; i < M; ++i) bias.push_back(rounded(0.3 * double(i) - 1.7, type));
  return bias;
}

TEST_CASE("cuBLASLt simulation: forward epilogues") {
  for (const Types& types : kTypes) {
    const std::vector<double> bias = bias_values(types.out);
    for (const cublasLtEpilogue_t epilogue :
         {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_BIAS,
          CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
          CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS}) {
      INFO("types ", types.in, " ", types.out, ", epilogue ", epilogue);
      Product p(types.in, types.out, M, N, K, epilogue);
      p.vector.set(0, bias);
      p.prepare();
      REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
      REQUIRE(p.run() == CUBLAS_STATUS_SUCCESS);
      const auto z = [&](int64_t i, int64_t j) {
        return p.sum(i, j) + (epilogue & CUBLASLT_EPILOGUE_BIAS ? bias[size_t(i)] : 0);
      };
      p.d.fetch();
      CHECK(difference(p.d.values, each([&](int64_t i, int64_t j) {
                         if (epilogue & CUBLASLT_EPILOGUE_RELU) return std::max(z(i, j), 0.0);
                         return epilogue & CUBLASLT_EPILOGUE_GELU ? gelu(z(i, j)) : z(i, j);
                       })) <= tolerance(types.out));
      if (!(epilogue & 128)) continue;
      std::vector<double> kept;
      for (int64_t j = 0; j < N; ++j) {
        const std::vector<double> column = p.aux.device.get(j * p.aux.ld, M);
        kept.insert(kept.end(), column.begin(), column.end());
      }
      CHECK(difference(kept, each(z)) <= tolerance(types.out));
    }
  }
  CHECK(reports().empty());
}

TEST_CASE("cuBLASLt simulation: gradients of gelu, and of the bias") {
  for (const Types& types : kTypes) {
    for (const cublasLtEpilogue_t epilogue : {CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_DGELU_BGRAD,
                                              CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
      INFO("types ", types.in, " ", types.out, ", epilogue ", epilogue);
      Product p(types.in, types.out, M, N, K, epilogue);
      std::mt19937 random(8);
      p.aux.fill(random);
      p.prepare();
      REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
      REQUIRE(p.run() == CUBLAS_STATUS_SUCCESS);
      p.d.fetch();
      const bool slope = epilogue & 64;
      const auto value = [&](int64_t i, int64_t j) {
        return p.sum(i, j) * (slope ? gelu_slope(p.aux(i, j)) : 1);
      };
      CHECK(difference(p.d.values, each(value)) <= 1e-6 + tolerance(types.out));
      if (epilogue == CUBLASLT_EPILOGUE_DGELU) continue;
      std::vector<double> gradient;
      for (int64_t i = 0; i < (epilogue == CUBLASLT_EPILOGUE_BGRADB ? N : M); ++i) {
        double sum = 0;
        if (epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD)
          for (int64_t j = 0; j < N; ++j) sum += value(i, j);
        else
          for (int64_t q = 0; q < K; ++q) sum += epilogue == CUBLASLT_EPILOGUE_BGRADA ? p.a(q, i) : p.b(q, i);
        gradient.push_back(sum);
      }
      CHECK(difference(p.vector.get(0, int64_t(gradient.size())), gradient) <= 1e-6 + tolerance(types.out));
    }
  }
  CHECK(reports().empty());
}

TEST_CASE("cuBLASLt simulation: relu's mask goes from the forward to the backward") {
  Product forward(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
  forward.vector.set(0, bias_values(CUDA_R_32F));
  forward.prepare();
  REQUIRE(forward.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(forward.run() == CUBLAS_STATUS_SUCCESS);
  forward.d.fetch();
  Product backward(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DRELU_BGRAD);
  backward.prepare();
  backward.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, forward.mask.at());
  REQUIRE(backward.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(backward.run() == CUBLAS_STATUS_SUCCESS);
  backward.d.fetch();
  const auto value = [&](int64_t i, int64_t j) { return forward.d(i, j) > 0 ? backward.sum(i, j) : 0; };
  CHECK(difference(backward.d.values, each(value)) <= 2e-6);
  std::vector<double> gradient(size_t{M});
  for (int64_t j = 0; j < N; ++j)
    for (int64_t i = 0; i < M; ++i) gradient[size_t(i)] += value(i, j);
  CHECK(difference(backward.vector.get(0, M), gradient) <= 2e-6);
  CHECK(reports().empty());
}

TEST_CASE("cuBLASLt simulation: beta adds what was there") {
  Product p(CUDA_R_16BF, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DEFAULT);
  std::mt19937 random(9);
  p.d.fill(random);
  const std::vector<double> before = p.d.values;
  p.prepare();
  REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(p.run(1) == CUBLAS_STATUS_SUCCESS);
  p.d.fetch();
  CHECK(difference(p.d.values, each([&](int64_t i, int64_t j) {
                     return p.sum(i, j) + before[size_t(j * M + i)];
                   })) <= 2e-6);
}

TEST_CASE("cuBLASLt simulation: wrong problems give the documented status") {
  using Change = std::function<void(Product&)>;
  const auto found = [](cublasLtEpilogue_t epilogue, const Change& change, cudaDataType out = CUDA_R_32F) {
    Product p(CUDA_R_32F, out, M, N, K, epilogue);
    p.prepare();
    change(p);
    return p.find();
  };
  const auto same = [](Product&) {};
  const auto layout = [](cublasLtMatrixLayoutOpaque_t Product::*which, cudaDataType type, uint64_t rows,
                         uint64_t cols, int64_t ld) {
    return [=](Product& p) { cublasLtMatrixLayoutInit(&(p.*which), type, rows, cols, ld); };
  };
  CHECK(found(CUBLASLT_EPILOGUE_BIAS, same) == CUBLAS_STATUS_SUCCESS);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, layout(&Product::layout_a, CUDA_R_32F, K, M, K - 1)) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, layout(&Product::layout_b, CUDA_R_32F, K + 1, N, K + 1)) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, layout(&Product::layout_d, CUDA_R_32F, M, N + 1, M)) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, layout(&Product::layout_d, CUDA_R_32F, 0, N, M)) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, layout(&Product::layout_a, CUDA_R_16BF, K, M, K)) ==
        CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, same, CUDA_R_16BF) == CUBLAS_STATUS_NOT_SUPPORTED);  // f32 to bf16
  CHECK(found(static_cast<cublasLtEpilogue_t>(3), same) == CUBLAS_STATUS_INVALID_VALUE);
  const auto aux_ld = [](int64_t ld) {
    return [ld](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld); };
  };
  CHECK(found(CUBLASLT_EPILOGUE_GELU_AUX, aux_ld(16)) == CUBLAS_STATUS_SUCCESS);
  CHECK(found(CUBLASLT_EPILOGUE_GELU_AUX, aux_ld(8)) == CUBLAS_STATUS_INVALID_VALUE);   // fewer than rows
  CHECK(found(CUBLASLT_EPILOGUE_GELU_AUX, aux_ld(20)) == CUBLAS_STATUS_INVALID_VALUE);  // not divisible by 8
  CHECK(found(CUBLASLT_EPILOGUE_RELU_AUX, aux_ld(16)) == CUBLAS_STATUS_INVALID_VALUE);  // by 128
  CHECK(found(CUBLASLT_EPILOGUE_BIAS, [](Product& p) {
          p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_16BF});
        }) == CUBLAS_STATUS_NOT_SUPPORTED);
  const auto as_f64 = [](Product& p) {
    REQUIRE(cublasLtMatmulDescInit(&p.desc, CUBLAS_COMPUTE_64F, CUDA_R_64F) == CUBLAS_STATUS_SUCCESS);
    p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
    for (auto* x : {&p.layout_a, &p.layout_d}) cublasLtMatrixLayoutInit(x, CUDA_R_64F, M, M, M);
    p.layout_b = p.layout_a, p.layout_d = p.layout_a;
  };
  CHECK(found(CUBLASLT_EPILOGUE_DEFAULT, as_f64) == CUBLAS_STATUS_SUCCESS);
  CHECK(found(CUBLASLT_EPILOGUE_BIAS, as_f64) == CUBLAS_STATUS_NOT_SUPPORTED);

  Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_BIAS);
  p.prepare();
  const int64_t wide = 1;
  CHECK(cublasLtMatmulDescSetAttribute(&p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulDescSetAttribute(&p.desc, CUBLASLT_MATMUL_DESC_TRANSA, nullptr, 4) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(reports().empty());
}

TEST_CASE("cuBLASLt simulation: an algorithm runs the problem that it was made for") {
  const auto made = [](auto&& before, auto&& after, bool with_bias = true) {
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, 100,
              with_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    p.vector.set(0, bias_values(CUDA_R_32F));
    p.prepare();
    before(p);
    REQUIRE(p.find() == CUBLAS_STATUS_SUCCESS);
    CHECK(p.result.workspaceSize > 0);  // k is long
    return after(p);
  };
  const auto same = [](Product&) {};
  const auto run = [](Product& p) { return p.run(); };
  CHECK(made(same, run) == CUBLAS_STATUS_SUCCESS);
  const auto with = [](const void* a, void* d, const void* bias, void* workspace, size_t workspace_bytes,
                       const void* alpha = nullptr) {
    return [=](Product& p) {
      const float one = 1, zero = 0;
      if (bias) p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      const auto shifted = [](const void* given, void* own) {
        return given ? static_cast<char*>(own) + reinterpret_cast<intptr_t>(given) : own;
      };
      return cublasLtMatmul(p.lt.handle, &p.desc, alpha ? alpha : &one, shifted(a, p.a.device.at()),
                            &p.layout_a, p.b.device.at(), &p.layout_b, &zero, nullptr, &p.layout_d,
                            shifted(d, p.d.device.at()), &p.layout_d, &p.result.algo,
                            workspace ? workspace : p.workspace.at(), workspace_bytes, nullptr);
    };
  };
  const void* four = reinterpret_cast<const void*>(4);
  constexpr size_t enough = 4 << 20;
  CHECK(made(same, with(nullptr, nullptr, nullptr, nullptr, enough)) == CUBLAS_STATUS_SUCCESS);
  CHECK(made(same, with(nullptr, nullptr, nullptr, nullptr, 16)) == CUBLAS_STATUS_INVALID_VALUE);
  // Less aligned than what was announced: 256 bytes, or the bias that was set.
  CHECK(made(same, with(four, nullptr, nullptr, nullptr, enough)) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(made(same, with(nullptr, const_cast<void*>(four), nullptr, nullptr, enough)) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(made(same, with(nullptr, nullptr, four, nullptr, enough)) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(made([](Product& p) { p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr); }, run) ==
        CUBLAS_STATUS_INVALID_VALUE);
  // Announced, it is accepted, and then reads beyond the end of A.
  CHECK(reports_as("cublasLtMatmul: A", [&] {
    CHECK(made([](Product& p) { p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{4}); },
               with(four, nullptr, nullptr, nullptr, enough)) == CUBLAS_STATUS_SUCCESS);
  }));
  CHECK(reports_as("made for another problem", [&] {
    made(same, [](Product& p) {
      Product::layout(p.layout_d, p.a);
      cublasLtMatrixLayoutInit(&p.layout_d, CUDA_R_32F, M, N, M);
      return p.run();
    });
  }));
}

TEST_CASE("cuBLASLt simulation: misuse is reported") {
  CHECK(reports_as("a matmul descriptor was not initialised", [] {
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DEFAULT);
    p.prepare();
    p.desc = {};
    CHECK(p.find() == CUBLAS_STATUS_INVALID_VALUE);
  }));
  CHECK(reports_as("a matrix layout was not initialised", [] {
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DEFAULT);
    p.prepare();
    p.layout_b = {};
    CHECK(p.find() == CUBLAS_STATUS_INVALID_VALUE);
  }));
  CHECK(reports_as("cublasLtMatmul: bias", [] {  // uninitialised
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_BIAS);
    p.prepare();
    p.find(), p.run();
  }));
  CHECK(reports_as("cublasLtMatmul: aux", [] {
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DGELU);
    p.prepare();
    p.find(), p.run();
  }));
  CHECK(reports_as("attribute 15", [] {
    Product p(CUDA_R_32F, CUDA_R_32F, M, N, K, CUBLASLT_EPILOGUE_DEFAULT);
    p.prepare();
    const int32_t count = 1;
    CHECK(cublasLtMatmulDescSetAttribute(&p.desc, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, &count,
                                         sizeof count) == CUBLAS_STATUS_NOT_SUPPORTED);
  }));
}

}  // namespace
