// The matrix products behind the simulated cuBLAS and cuBLASLt, on column-major matrices as there. Runs as
// work of a stream: operands are checked to be readable, and the output to be writable, when their turn has
// come.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstdint>

namespace cudasim {

// A stored matrix [rows, cols] with a leading dimension; matrices of a batch are `stride` elements apart.
struct GemmMatrix {
  void* data = nullptr;
  cudaDataType type = CUDA_R_32F;
  int64_t rows = 0, cols = 0, ld = 0, stride = 0;
};

// d = act(alpha op(a) op(b) + beta c + bias) in the accumulator type f32 (f64 for f64), rounded once when
// stored.
struct Gemm {
  const char* call;  // for reports
  int64_t m, n, k, batch = 1;
  bool transpose_a, transpose_b;
  bool tf32 = false;  // a and b of f32 are rounded to 10 bits of mantissa
  double alpha = 1, beta = 0;
  GemmMatrix a, b, c, d;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  // read, or for the *BGRAD* epilogues written, in d's type
  void* aux = nullptr;   // elements of d's type, or a bit mask for relu
  int64_t aux_ld = 0;
  void* workspace = nullptr;  // nothing in it survives a call
  int64_t workspace_bytes = 0;
};

void run_gemm(const Gemm& gemm);

// How many products were run with this epilogue since the program started; 0: those of cuBLAS. For tests that
// ask which call an op makes.
int64_t products_run(int epilogue);

int64_t size_of(cudaDataType type);  // 0 for types that no product here takes

}  // namespace cudasim
