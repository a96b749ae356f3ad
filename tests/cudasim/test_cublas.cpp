// The simulated cuBLAS: results against f64 on the host, statuses as documented, misuse reported.
#include "cublas_util.h"

using namespace cudasim;

namespace {

struct Handle {
  Handle() { REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
  ~Handle() { cublasDestroy(handle); }
  operator cublasHandle_t() const { return handle; }
  cublasHandle_t handle = nullptr;
};

struct Types {
  cudaDataType in, out;
  cublasComputeType_t compute;
};
constexpr Types kTypes[] = {{CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                            {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F},
                            {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                            {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F}};

double op(const Matrix& x, cublasOperation_t op, int64_t i, int64_t j) {
  return op == CUBLAS_OP_N ? x(i, j) : x(j, i);
}

cublasStatus_t gemm(cublasHandle_t handle, const Types& types, cublasOperation_t ta, cublasOperation_t tb,
                    int64_t m, int64_t n, int64_t k, double alpha, const Matrix& a, const Matrix& b,
                    double beta, const Matrix& c) {
  const float alpha32 = static_cast<float>(alpha), beta32 = static_cast<float>(beta);
  const bool wide = types.out == CUDA_R_64F;
  return cublasGemmEx_64(handle, ta, tb, m, n, k, wide ? static_cast<const void*>(&alpha) : &alpha32,
                         a.device.at(), a.type, a.ld, b.device.at(), b.type, b.ld,
                         wide ? static_cast<const void*>(&beta) : &beta32, c.device.at(), c.type, c.ld,
                         types.compute, CUBLAS_GEMM_DEFAULT);
}

constexpr int64_t kSizes[][3] = {{1, 1, 1}, {3, 5, 7}, {17, 9, 33}, {40, 21, 1}, {4, 6, 0}};

TEST_CASE("cuBLAS simulation: products of all types, transposes and leading dimensions") {
  Handle handle;
  std::mt19937 random(1);
  for (const Types& types : kTypes) {
    for (const auto& sizes : kSizes) {
      const int64_t m = sizes[0], n = sizes[1], k = sizes[2];
      for (const cublasOperation_t ta : {CUBLAS_OP_N, CUBLAS_OP_T}) {
        for (const cublasOperation_t tb : {CUBLAS_OP_N, CUBLAS_OP_T}) {
          for (const double beta : {0.0, 0.5}) {
            INFO("types ", types.in, " ", types.out, ", sizes ", m, " ", n, " ", k, ", transposes ", ta, " ",
                 tb);
            Matrix a = ta == CUBLAS_OP_N ? Matrix(types.in, m, k, 3) : Matrix(types.in, k, m, 1);
            Matrix b = tb == CUBLAS_OP_N ? Matrix(types.in, k, n) : Matrix(types.in, n, k, 2);
            Matrix c(types.out, m, n, 4);
            a.fill(random), b.fill(random);
            if (beta != 0) c.fill(random);
            std::vector<double> expected;
            for (int64_t j = 0; j < n; ++j) {
              for (int64_t i = 0; i < m; ++i) {
                double sum = 0;
                for (int64_t p = 0; p < k; ++p) sum += op(a, ta, i, p) * op(b, tb, p, j);
                expected.push_back(1.5 * sum + (beta != 0 ? beta * c(i, j) : 0));
              }
            }
            if (a.ld == 0) a.ld = 1;
            if (b.ld == 0) b.ld = 1;
            REQUIRE(gemm(handle, types, ta, tb, m, n, k, 1.5, a, b, beta, c) == CUBLAS_STATUS_SUCCESS);
            c.fetch();
            CHECK(difference(c.values, expected) <= tolerance(types.out));
          }
        }
      }
    }
  }
  CHECK(reports().empty());
}

TEST_CASE("cuBLAS simulation: batches with strides and a shared operand") {
  Handle handle;
  std::mt19937 random(2);
  constexpr int64_t m = 5, n = 4, k = 3, batch = 3;
  Matrix a(CUDA_R_32F, m, k * batch), b(CUDA_R_32F, k, n), c(CUDA_R_32F, m, n * batch);
  a.fill(random), b.fill(random);
  const float one = 1, zero = 0;
  REQUIRE(cublasGemmStridedBatchedEx_64(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a.device.at(),
                                        CUDA_R_32F, m, m * k, b.device.at(), CUDA_R_32F, k, 0, &zero,
                                        c.device.at(), CUDA_R_32F, m, m * n, batch, CUBLAS_COMPUTE_32F,
                                        CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  c.fetch();
  std::vector<double> expected;
  for (int64_t i = 0; i < batch; ++i)
    for (int64_t col = 0; col < n; ++col)
      for (int64_t row = 0; row < m; ++row) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p) sum += a(row, i * k + p) * b(p, col);
        expected.push_back(sum);
      }
  CHECK(difference(c.values, expected) <= tolerance(CUDA_R_32F));
  CHECK(reports().empty());
}

TEST_CASE("cuBLAS simulation: TF32 rounds the operands, and only where it is asked for") {
  Handle handle;
  Matrix a(CUDA_R_32F, 1, 1), b(CUDA_R_32F, 1, 1), c(CUDA_R_32F, 1, 1);
  const double value = 1 + std::ldexp(1.0, -20);
  a.device.set(0, {value}), b.device.set(0, {1});
  Types types = kTypes[0];
  REQUIRE(gemm(handle, types, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, 1, a, b, 0, c) == CUBLAS_STATUS_SUCCESS);
  CHECK(c.device.get(0, 1)[0] == value);
  types.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  REQUIRE(gemm(handle, types, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, 1, a, b, 0, c) == CUBLAS_STATUS_SUCCESS);
  CHECK(c.device.get(0, 1)[0] == 1);
}

TEST_CASE("cuBLAS simulation: wrong arguments give the documented status") {
  Handle handle;
  std::mt19937 random(3);
  constexpr int64_t m = 4, n = 3, k = 2;
  Matrix a(CUDA_R_32F, m, k), b(CUDA_R_32F, k, n), c(CUDA_R_32F, m, n);
  a.fill(random), b.fill(random), c.fill(random);
  struct Call {
    cublasHandle_t handle;
    cublasOperation_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N;
    int64_t m = 4, n = 3, k = 2, lda = 4, ldb = 2, ldc = 4;
    cudaDataType a = CUDA_R_32F, b = CUDA_R_32F, c = CUDA_R_32F;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
    bool alpha = true, beta = true;
  };
  const float one = 1;
  const auto run = [&](const Call& x) {
    return cublasGemmEx_64(x.handle, x.ta, x.tb, x.m, x.n, x.k, x.alpha ? &one : nullptr, a.device.at(), x.a,
                           x.lda, b.device.at(), x.b, x.ldb, x.beta ? &one : nullptr, c.device.at(), x.c,
                           x.ldc, x.compute, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(run({.handle = handle}) == CUBLAS_STATUS_SUCCESS);
  CHECK(run({.handle = nullptr}) == CUBLAS_STATUS_NOT_INITIALIZED);
  CHECK(run({.handle = handle, .lda = 3}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .ldb = 1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .ldc = 3}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .ta = CUBLAS_OP_T, .lda = 1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .tb = CUBLAS_OP_T, .ldb = 2}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .ta = CUBLAS_OP_CONJG}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .m = -1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .n = -1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .k = -1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .alpha = false}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .beta = false}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(run({.handle = handle, .b = CUDA_R_16BF}) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(run({.handle = handle, .c = CUDA_R_16BF}) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(run({.handle = handle, .compute = CUBLAS_COMPUTE_64F}) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(run({.handle = handle, .m = 0}) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasSetWorkspace(handle, static_cast<char*>(a.device.at()) + 4, 16) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasCreate(nullptr) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(reports().empty());
}

TEST_CASE("cuBLAS simulation: misuse is reported") {
  Handle handle;
  std::mt19937 random(4);
  Matrix a(CUDA_R_32F, 4, 4), b(CUDA_R_32F, 4, 4), c(CUDA_R_32F, 4, 4), fresh(CUDA_R_32F, 4, 4);
  a.fill(random), b.fill(random), c.fill(random);
  const auto square = [&](const Matrix& x, const Matrix& y, double beta, const Matrix& out) {
    return gemm(handle, kTypes[0], CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, 1, x, y, beta, out);
  };
  CHECK(reports_as("cublasGemmEx_64: B", [&] { square(a, fresh, 0, c); }));  // uninitialised
  CHECK(reports_as("cublasGemmEx_64: C", [&] { square(a, b, 1, fresh); }));  // beta reads it
  CHECK(reports_as("the output overlaps A", [&] { square(a, b, 0, a); }));
  CHECK(reports_as("the output overlaps B", [&] { square(a, b, 0, b); }));
  const float one = 1, zero = 0;
  const auto call = [&](const void* alpha, const void* x, int64_t k) {
    return cublasGemmEx_64(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, k, alpha, x, CUDA_R_32F, 4, b.device.at(),
                           CUDA_R_32F, k, &zero, c.device.at(), CUDA_R_32F, 4, CUBLAS_COMPUTE_32F,
                           CUBLAS_GEMM_DEFAULT);
  };
  const std::vector<float> host(16, 1.0f);
  CHECK(reports_as("cublasGemmEx_64: A", [&] { call(&one, host.data(), 4); }));  // not on the device
  CHECK(reports_as("cublasGemmEx_64: A", [&] { call(&one, nullptr, 4); }));
  CHECK(reports_as("cublasGemmEx_64: A", [&] { call(&one, a.device.at(), 5); }));  // beyond its end
  CHECK(reports_as("not aligned", [&] { call(&one, static_cast<char*>(a.device.at()) + 2, 3); }));
  CHECK(reports_as("alpha or beta is on the device",
                   [&] { CHECK(call(a.device.at(), a.device.at(), 4) == CUBLAS_STATUS_INVALID_VALUE); }));
  CHECK(reports_as("outputs of the batch overlap", [&] {
    cublasGemmStridedBatchedEx_64(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.device.at(), CUDA_R_32F,
                                  2, 4, b.device.at(), CUDA_R_32F, 2, 4, &zero, c.device.at(), CUDA_R_32F, 2,
                                  3, 2, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }));
  CHECK(reports_as("cublasSetPointerMode", [&] {
    CHECK(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE) == CUBLAS_STATUS_NOT_SUPPORTED);
  }));
  CHECK(reports_as("f16 or i8", [&] {
    Matrix half(CUDA_R_16F, 4, 4);
    CHECK(gemm(handle, kTypes[0], CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, 1, half, half, 0, half) ==
          CUBLAS_STATUS_NOT_SUPPORTED);
  }));
}

TEST_CASE("cuBLAS simulation: a freed or small workspace is reported") {
  Handle handle;
  std::mt19937 random(5);
  Matrix a(CUDA_R_32F, 4, 4), b(CUDA_R_32F, 4, 4), c(CUDA_R_32F, 4, 4);
  a.fill(random), b.fill(random);
  const auto product = [&] {
    return gemm(handle, kTypes[0], CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, 1, a, b, 0, c);
  };
  {
    Buffer workspace(CUDA_R_32F, 4096);
    REQUIRE(cublasSetWorkspace(handle, workspace.at(), workspace.bytes()) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(product() == CUBLAS_STATUS_SUCCESS);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(reports_as("workspace is smaller", [&] {
      cublasSetWorkspace(handle, workspace.at(), workspace.bytes() + 1);
      product();
    }));
    cublasSetWorkspace(handle, workspace.at(), workspace.bytes());
  }
  CHECK(reports_as("workspace is smaller", [&] { product(); }));
  REQUIRE(cublasSetStream(handle, nullptr) == CUBLAS_STATUS_SUCCESS);  // brings the library's own back
  REQUIRE(product() == CUBLAS_STATUS_SUCCESS);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

}  // namespace
