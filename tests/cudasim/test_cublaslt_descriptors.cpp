// Descriptors of the real cuBLASLt need no device: what it says to each attribute and size, the simulated one
// says.
#include <cublasLt.h>
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>

namespace {

template <class F> F* real(const char* name) {
  static void* const library = dlopen(TANDEM_CUBLASLT, RTLD_NOW | RTLD_LOCAL);
  REQUIRE_MESSAGE(library, dlerror());
  return reinterpret_cast<F*>(dlsym(library, name));
}

}  // namespace

TEST_CASE("cuBLASLt simulation: descriptors take and refuse what the real library's do") {
  const auto real_desc_init =
      real<decltype(cublasLtMatmulDescInit_internal)>("cublasLtMatmulDescInit_internal");
  const auto real_desc_set = real<decltype(cublasLtMatmulDescSetAttribute)>("cublasLtMatmulDescSetAttribute");
  const auto real_layout_init =
      real<decltype(cublasLtMatrixLayoutInit_internal)>("cublasLtMatrixLayoutInit_internal");
  const auto real_preference_init =
      real<decltype(cublasLtMatmulPreferenceInit_internal)>("cublasLtMatmulPreferenceInit_internal");
  const auto real_preference_set =
      real<decltype(cublasLtMatmulPreferenceSetAttribute)>("cublasLtMatmulPreferenceSetAttribute");
  REQUIRE(
      (real_desc_init && real_desc_set && real_layout_init && real_preference_init && real_preference_set));
  const uint64_t zero[2] = {};

  cublasLtMatmulDescOpaque_t theirs, ours;
  REQUIRE(real_desc_init(&theirs, sizeof theirs, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatmulDescInit(&ours, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK(real_desc_init(&theirs, 8, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
        cublasLtMatmulDescInit_internal(&ours, 8, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  for (const auto attribute :
       {CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB,
        CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
        CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD,
        CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE}) {
    for (const size_t size : {1, 2, 4, 8, 16}) {
      INFO("descriptor attribute ", int(attribute), ", ", size, " bytes");
      CHECK(cublasLtMatmulDescSetAttribute(&ours, attribute, zero, size) ==
            real_desc_set(&theirs, attribute, zero, size));
    }
    CHECK(cublasLtMatmulDescSetAttribute(&ours, attribute, nullptr, 4) ==
          real_desc_set(&theirs, attribute, nullptr, 4));
  }

  cublasLtMatmulPreferenceOpaque_t their_preference, our_preference;
  REQUIRE(real_preference_init(&their_preference, sizeof their_preference) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatmulPreferenceInit(&our_preference) == CUBLAS_STATUS_SUCCESS);
  CHECK(real_preference_init(&their_preference, sizeof their_preference - 8) ==
        cublasLtMatmulPreferenceInit_internal(&our_preference, sizeof our_preference - 8));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    for (const size_t size : {1, 2, 4, 8, 16}) {
      INFO("preference attribute ", int(attribute), ", ", size, " bytes");
      CHECK(cublasLtMatmulPreferenceSetAttribute(&our_preference, attribute, zero, size) ==
            real_preference_set(&their_preference, attribute, zero, size));
    }
  }

  cublasLtMatrixLayoutOpaque_t their_layout, our_layout;
  for (const int64_t ld : {4, 3, 0, -1}) {
    INFO("layout of 4 rows, leading dimension ", ld);
    CHECK(cublasLtMatrixLayoutInit(&our_layout, CUDA_R_32F, 4, 5, ld) ==
          real_layout_init(&their_layout, sizeof their_layout, CUDA_R_32F, 4, 5, ld));
  }
  CHECK(cublasLtMatrixLayoutInit_internal(&our_layout, sizeof our_layout - 8, CUDA_R_32F, 4, 5, 4) ==
        real_layout_init(&their_layout, sizeof their_layout - 8, CUDA_R_32F, 4, 5, 4));
}
