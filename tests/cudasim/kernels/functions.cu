#include <cuda_fp16.h>

#include "functions.h"

namespace functions {
namespace {

unsigned blocks(int n) { return static_cast<unsigned>((n + 63) / 64); }

template <class T> __device__ T evaluate(Function function, T a, T b) {
  switch (function) {
    case Function::exp:
      return exp(a);
    case Function::exp2:
      return exp2(a);
    case Function::exp10:
      return exp10(a);
    case Function::expm1:
      return expm1(a);
    case Function::log:
      return log(a);
    case Function::log2:
      return log2(a);
    case Function::log10:
      return log10(a);
    case Function::log1p:
      return log1p(a);
    case Function::sin:
      return sin(a);
    case Function::cos:
      return cos(a);
    case Function::tan:
      return tan(a);
    case Function::asin:
      return asin(a);
    case Function::acos:
      return acos(a);
    case Function::atan:
      return atan(a);
    case Function::atan2:
      return atan2(a, b);
    case Function::sinh:
      return sinh(a);
    case Function::cosh:
      return cosh(a);
    case Function::tanh:
      return tanh(a);
    case Function::pow:
      return pow(a, b);
    case Function::erf:
      return erf(a);
    case Function::erfc:
      return erfc(a);
    case Function::erfinv:
      return erfinv(a);
    case Function::lgamma:
      return lgamma(a);
    case Function::cbrt:
      return cbrt(a);
    case Function::rsqrt:
      return rsqrt(a);
    case Function::sqrt:
      return sqrt(a);
    case Function::divide:
      return a / b;
    case Function::fmod:
      return fmod(a, b);
    case Function::hypot:
      return hypot(a, b);
    case Function::round:
      return round(a);
    case Function::rint:
      return rint(a);
    case Function::trunc:
      return trunc(a);
    case Function::floor:
      return floor(a);
    case Function::ceil:
      return ceil(a);
    case Function::fmin:
      return fmin(a, b);
    case Function::fmax:
      return fmax(a, b);
    case Function::copysign:
      return copysign(a, b);
  }
  return 0;
}

template <class T> __global__ void apply_kernel(Function function, int n, const T* a, const T* b, T* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = evaluate(function, a[i], b[i]);
}

__global__ void apply_fast_kernel(int function, int n, const float* a, const float* b, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  switch (function) {
    case 0:
      y[i] = __expf(a[i]);
      break;
    case 1:
      y[i] = __logf(a[i]);
      break;
    case 2:
      y[i] = __sinf(a[i]);
      break;
    case 3:
      y[i] = __cosf(a[i]);
      break;
    case 4:
      y[i] = __fdividef(a[i], b[i]);
      break;
    default:
      asm("tanh.approx.f32 %0, %1;" : "=f"(y[i]) : "f"(a[i]));
  }
}

template <Mode mode> __device__ void all_rounded(float a, float b, float c, float* y) {
  if constexpr (mode == Mode::nearest) {
    y[0] = __fadd_rn(a, b), y[1] = __fmul_rn(a, b), y[2] = __fmaf_rn(a, b, c), y[3] = __fdiv_rn(a, b),
    y[4] = __fsqrt_rn(a), y[5] = __frcp_rn(b);
  } else if constexpr (mode == Mode::zero) {
    y[0] = __fadd_rz(a, b), y[1] = __fmul_rz(a, b), y[2] = __fmaf_rz(a, b, c), y[3] = __fdiv_rz(a, b),
    y[4] = __fsqrt_rz(a), y[5] = __frcp_rz(b);
  } else if constexpr (mode == Mode::down) {
    y[0] = __fadd_rd(a, b), y[1] = __fmul_rd(a, b), y[2] = __fmaf_rd(a, b, c), y[3] = __fdiv_rd(a, b),
    y[4] = __fsqrt_rd(a), y[5] = __frcp_rd(b);
  } else {
    y[0] = __fadd_ru(a, b), y[1] = __fmul_ru(a, b), y[2] = __fmaf_ru(a, b, c), y[3] = __fdiv_ru(a, b),
    y[4] = __fsqrt_ru(a), y[5] = __frcp_ru(b);
  }
}

template <Mode mode> __device__ void all_rounded(double a, double b, double c, double* y) {
  if constexpr (mode == Mode::nearest) {
    y[0] = __dadd_rn(a, b), y[1] = __dmul_rn(a, b), y[2] = __fma_rn(a, b, c), y[3] = __ddiv_rn(a, b),
    y[4] = __dsqrt_rn(a), y[5] = __drcp_rn(b);
  } else if constexpr (mode == Mode::zero) {
    y[0] = __dadd_rz(a, b), y[1] = __dmul_rz(a, b), y[2] = __fma_rz(a, b, c), y[3] = __ddiv_rz(a, b),
    y[4] = __dsqrt_rz(a), y[5] = __drcp_rz(b);
  } else if constexpr (mode == Mode::down) {
    y[0] = __dadd_rd(a, b), y[1] = __dmul_rd(a, b), y[2] = __fma_rd(a, b, c), y[3] = __ddiv_rd(a, b),
    y[4] = __dsqrt_rd(a), y[5] = __drcp_rd(b);
  } else {
    y[0] = __dadd_ru(a, b), y[1] = __dmul_ru(a, b), y[2] = __fma_ru(a, b, c), y[3] = __ddiv_ru(a, b),
    y[4] = __dsqrt_ru(a), y[5] = __drcp_ru(b);
  }
}

template <Mode mode, class T>
__global__ void rounded_kernel(int n, const T* a, const T* b, const T* c, T* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) all_rounded<mode>(a[i], b[i], c[i], y + 6 * i);
}

template <Mode mode> __device__ void all_integers(float a, int64_t* y) {
  if constexpr (mode == Mode::nearest) {
    y[0] = __float2int_rn(a), y[1] = __float2uint_rn(a), y[2] = __float2ll_rn(a),
    y[3] = static_cast<int64_t>(__float2ull_rn(a));
  } else if constexpr (mode == Mode::zero) {
    y[0] = __float2int_rz(a), y[1] = __float2uint_rz(a), y[2] = __float2ll_rz(a),
    y[3] = static_cast<int64_t>(__float2ull_rz(a));
  } else if constexpr (mode == Mode::down) {
    y[0] = __float2int_rd(a), y[1] = __float2uint_rd(a), y[2] = __float2ll_rd(a),
    y[3] = static_cast<int64_t>(__float2ull_rd(a));
  } else {
    y[0] = __float2int_ru(a), y[1] = __float2uint_ru(a), y[2] = __float2ll_ru(a),
    y[3] = static_cast<int64_t>(__float2ull_ru(a));
  }
}

template <Mode mode> __device__ void all_integers(double a, int64_t* y) {
  if constexpr (mode == Mode::nearest) {
    y[0] = __double2int_rn(a), y[1] = __double2uint_rn(a), y[2] = __double2ll_rn(a),
    y[3] = static_cast<int64_t>(__double2ull_rn(a));
  } else if constexpr (mode == Mode::zero) {
    y[0] = __double2int_rz(a), y[1] = __double2uint_rz(a), y[2] = __double2ll_rz(a),
    y[3] = static_cast<int64_t>(__double2ull_rz(a));
  } else if constexpr (mode == Mode::down) {
    y[0] = __double2int_rd(a), y[1] = __double2uint_rd(a), y[2] = __double2ll_rd(a),
    y[3] = static_cast<int64_t>(__double2ull_rd(a));
  } else {
    y[0] = __double2int_ru(a), y[1] = __double2uint_ru(a), y[2] = __double2ll_ru(a),
    y[3] = static_cast<int64_t>(__double2ull_ru(a));
  }
}

template <Mode mode, class T> __global__ void to_integers_kernel(int n, const T* a, int64_t* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) all_integers<mode>(a[i], y + 4 * i);
}

template <Mode mode> __global__ void to_floats_kernel(int n, const int64_t* a, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t v = a[i];
  const auto s = static_cast<int>(v);
  const auto u = static_cast<unsigned>(v);
  const auto w = static_cast<unsigned long long>(v);
  y += 4 * i;
  if constexpr (mode == Mode::nearest) {
    y[0] = __int2float_rn(s), y[1] = __uint2float_rn(u), y[2] = __ll2float_rn(v), y[3] = __ull2float_rn(w);
  } else if constexpr (mode == Mode::zero) {
    y[0] = __int2float_rz(s), y[1] = __uint2float_rz(u), y[2] = __ll2float_rz(v), y[3] = __ull2float_rz(w);
  } else if constexpr (mode == Mode::down) {
    y[0] = __int2float_rd(s), y[1] = __uint2float_rd(u), y[2] = __ll2float_rd(v), y[3] = __ull2float_rd(w);
  } else {
    y[0] = __int2float_ru(s), y[1] = __uint2float_ru(u), y[2] = __ll2float_ru(v), y[3] = __ull2float_ru(w);
  }
}

template <Mode mode> __global__ void narrowed_kernel(int n, const double* a, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if constexpr (mode == Mode::nearest)
    y[i] = __double2float_rn(a[i]);
  else if constexpr (mode == Mode::zero)
    y[i] = __double2float_rz(a[i]);
  else if constexpr (mode == Mode::down)
    y[i] = __double2float_rd(a[i]);
  else
    y[i] = __double2float_ru(a[i]);
}

__global__ void flushed_kernel(int n, const float* a, const float* b, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float p = a[i], q = b[i];
  float r[6];
  asm("add.ftz.f32 %0, %1, %2;" : "=f"(r[0]) : "f"(p), "f"(q));
  asm("mul.rn.ftz.f32 %0, %1, %2;" : "=f"(r[1]) : "f"(p), "f"(q));
  asm("fma.rn.ftz.f32 %0, %1, %2, %1;" : "=f"(r[2]) : "f"(p), "f"(q));
  asm("max.ftz.f32 %0, %1, %2;" : "=f"(r[3]) : "f"(p), "f"(q));
  asm("neg.ftz.f32 %0, %1;" : "=f"(r[4]) : "f"(p));
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r[5]) : "f"(q));
  for (int k = 0; k < 6; ++k) y[6 * i + k] = r[k];
}

__global__ void saturated_kernel(int n, const float* a, const float* b, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float r[3];
  asm("add.sat.f32 %0, %1, %2;" : "=f"(r[0]) : "f"(a[i]), "f"(b[i]));
  asm("mul.sat.f32 %0, %1, %2;" : "=f"(r[1]) : "f"(a[i]), "f"(b[i]));
  asm("fma.rn.sat.f32 %0, %1, %2, %1;" : "=f"(r[2]) : "f"(a[i]), "f"(b[i]));
  for (int k = 0; k < 3; ++k) y[3 * i + k] = r[k];
}

__global__ void integers_kernel(int n, const uint32_t* pa, const uint32_t* pb, const uint32_t* pc,
                                uint32_t* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t a = pa[i], b = pb[i], c = pc[i];
  uint32_t r[integer_results];
  asm("bfe.u32 %0, %1, %2, %3;" : "=r"(r[0]) : "r"(a), "r"(b & 63), "r"(c & 63));
  asm("bfe.s32 %0, %1, %2, %3;" : "=r"(r[1]) : "r"(a), "r"(b & 63), "r"(c & 63));
  asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(r[2]) : "r"(a), "r"(b), "r"(c & 63), "r"(c >> 8 & 63));
  asm("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(r[3]) : "r"(a), "r"(b), "r"(c));
  asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(r[4]) : "r"(a), "r"(b), "r"(c));
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r[5]) : "r"(a), "r"(b), "r"(c));
  asm("shf.r.clamp.b32 %0, %1, %2, %3;" : "=r"(r[6]) : "r"(a), "r"(b), "r"(c & 63));
  asm("shf.l.wrap.b32 %0, %1, %2, %3;" : "=r"(r[7]) : "r"(a), "r"(b), "r"(c));
  asm("bfind.u32 %0, %1;" : "=r"(r[8]) : "r"(a));
  asm("bfind.s32 %0, %1;" : "=r"(r[9]) : "r"(a));
  asm("mul24.lo.u32 %0, %1, %2;" : "=r"(r[10]) : "r"(a), "r"(b));
  asm("mul24.hi.s32 %0, %1, %2;" : "=r"(r[11]) : "r"(a), "r"(b));
  asm("add.sat.s32 %0, %1, %2;" : "=r"(r[12]) : "r"(a), "r"(b));
  asm("{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, 0; }" : "=r"(r[13]) : "r"(a), "r"(b), "r"(c));
  asm("{ .reg .u32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, %3, 0; }" : "=r"(r[14]) : "r"(a), "r"(b), "r"(c));
  asm("{ .reg .u32 t; mad.lo.cc.u32 t, %1, %2, %3; madc.hi.u32 %0, %1, %2, 0; }"
      : "=r"(r[15])
      : "r"(a), "r"(b), "r"(c));
  asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(r[16]) : "r"(a), "r"(b), "r"(c));
  asm("shr.s32 %0, %1, %2;" : "=r"(r[17]) : "r"(a), "r"(b & 63));
  asm("{ .reg .pred p; setp.lt.s32 p, %1, %2; selp.u32 %0, %1, %2, p; }" : "=r"(r[18]) : "r"(a), "r"(b));
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, l}; }" : "=r"(r[19]) : "r"(a));
  for (int k = 0; k < integer_results; ++k) y[integer_results * i + k] = r[k];
}

__global__ void halves_kernel(int n, const uint16_t* a, float* y, uint16_t* back) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = __half2float(__ushort_as_half(a[i]));
  back[i] = __half_as_ushort(__float2half(y[i]));
}

// Calls f with the mode as a template argument.
template <class F> void with_mode(Mode mode, F f) {
  switch (mode) {
    case Mode::nearest:
      return f.template operator()<Mode::nearest>();
    case Mode::zero:
      return f.template operator()<Mode::zero>();
    case Mode::down:
      return f.template operator()<Mode::down>();
    case Mode::up:
      return f.template operator()<Mode::up>();
  }
}

}  // namespace

void apply(Function function, int n, const float* a, const float* b, float* y) {
  apply_kernel<<<blocks(n), 64>>>(function, n, a, b, y);
}
void apply(Function function, int n, const double* a, const double* b, double* y) {
  apply_kernel<<<blocks(n), 64>>>(function, n, a, b, y);
}
void apply_fast(int function, int n, const float* a, const float* b, float* y) {
  apply_fast_kernel<<<blocks(n), 64>>>(function, n, a, b, y);
}
void rounded(Mode mode, int n, const float* a, const float* b, const float* c, float* y) {
  with_mode(mode, [&]<Mode m>() { rounded_kernel<m><<<blocks(n), 64>>>(n, a, b, c, y); });
}
void rounded(Mode mode, int n, const double* a, const double* b, const double* c, double* y) {
  with_mode(mode, [&]<Mode m>() { rounded_kernel<m><<<blocks(n), 64>>>(n, a, b, c, y); });
}
void to_integers(Mode mode, int n, const float* a, int64_t* y) {
  with_mode(mode, [&]<Mode m>() { to_integers_kernel<m><<<blocks(n), 64>>>(n, a, y); });
}
void to_integers(Mode mode, int n, const double* a, int64_t* y) {
  with_mode(mode, [&]<Mode m>() { to_integers_kernel<m><<<blocks(n), 64>>>(n, a, y); });
}
void to_floats(Mode mode, int n, const int64_t* a, float* y) {
  with_mode(mode, [&]<Mode m>() { to_floats_kernel<m><<<blocks(n), 64>>>(n, a, y); });
}
void narrowed(Mode mode, int n, const double* a, float* y) {
  with_mode(mode, [&]<Mode m>() { narrowed_kernel<m><<<blocks(n), 64>>>(n, a, y); });
}
void flushed(int n, const float* a, const float* b, float* y) {
  flushed_kernel<<<blocks(n), 64>>>(n, a, b, y);
}
void saturated(int n, const float* a, const float* b, float* y) {
  saturated_kernel<<<blocks(n), 64>>>(n, a, b, y);
}
void integers(int n, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* y) {
  integers_kernel<<<blocks(n), 64>>>(n, a, b, c, y);
}
void halves(int n, const uint16_t* a, float* y, uint16_t* back) {
  halves_kernel<<<blocks(n), 64>>>(n, a, y, back);
}

}  // namespace functions
