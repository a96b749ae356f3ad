// Mathematical functions of the device, each over arrays.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace functions {

enum class Function {
  exp,
  exp2,
  exp10,
  expm1,
  log,
  log2,
  log10,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  atan2,
  sinh,
  cosh,
  tanh,
  pow,
  erf,
  erfc,
  erfinv,
  lgamma,
  cbrt,
  rsqrt,
  sqrt,
  divide,
  fmod,
  hypot,
  round,
  rint,
  trunc,
  floor,
  ceil,
  fmin,
  fmax,
  copysign
};

void apply(Function function, int n, const float* a, const float* b, float* y);
void apply(Function function, int n, const double* a, const double* b, double* y);

// Intrinsics of less accuracy: __expf, __logf, __sinf, __cosf, __fdividef, __powf, __tanhf.
constexpr int fast_functions = 6;
void apply_fast(int function, int n, const float* a, const float* b, float* y);

// Results for one rounding mode: sum, product, fma, quotient, root, reciprocal of (a, b, c); six of each.
enum class Mode { nearest, zero, down, up };
void rounded(Mode mode, int n, const float* a, const float* b, const float* c, float* y);
void rounded(Mode mode, int n, const double* a, const double* b, const double* c, double* y);

// f32 to i32, u32, i64, u64 in the mode; four of each.
void to_integers(Mode mode, int n, const float* a, int64_t* y);
void to_integers(Mode mode, int n, const double* a, int64_t* y);
// i32, u32, i64, u64 (by the bits of a) to f32 in the mode; four of each.
void to_floats(Mode mode, int n, const int64_t* a, float* y);
// f64 to f32.
void narrowed(Mode mode, int n, const double* a, float* y);

// Flushing denormals: add, mul, fma, max, neg, ex2; six of each.
void flushed(int n, const float* a, const float* b, float* y);
// Saturated to [0, 1]: add, mul, fma; three of each.
void saturated(int n, const float* a, const float* b, float* y);

// Integer instructions that C++ does not name; the results as in test_math.cpp.
constexpr int integer_results = 20;
void integers(int n, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* y);

// half to float and back.
void halves(int n, const uint16_t* a, float* y, uint16_t* back);

}  // namespace functions
