// Results of f32 and f64 arithmetic in each rounding mode, and the flushing of denormals.
#pragma once
#include <cfenv>
#include <cfloat>
#include <cmath>
#include <limits>

namespace cudasim {

enum class Round { nearest, zero, down, up };

// `result` is the nearest to an exact value; `rest` has the sign of exact - result.
template <Round mode> inline float adjust(float result, double rest) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if constexpr (mode == Round::down) {
    if (rest < 0) return std::nextafter(result, -infinity);
  } else if constexpr (mode == Round::up) {
    if (rest > 0) return std::nextafter(result, infinity);
  } else if constexpr (mode == Round::zero) {
    if ((result > 0 && rest < 0) || (result < 0 && rest > 0)) return std::nextafter(result, 0.0f);
  }
  return result;
}

// The exact value is the sum of two doubles.
template <Round mode> inline float adjust_sum(float result, double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  const double error = (a - (sum - part)) + (b - part);
  return adjust<mode>(result, (sum - double{result}) + error);
}

template <Round mode> inline float fma_rounded(float a, float b, float c) {
  const float result = std::fma(a, b, c);
  if constexpr (mode == Round::nearest) return result;
  return adjust_sum<mode>(result, double{a} * double{b}, double{c});
}
template <Round mode> inline float add_rounded(float a, float b) {
  if constexpr (mode == Round::nearest) return a + b;
  return adjust_sum<mode>(a + b, double{a}, double{b});
}
template <Round mode> inline float mul_rounded(float a, float b) {
  const float result = a * b;
  if constexpr (mode == Round::nearest) return result;
  return adjust<mode>(result, double{a} * double{b} - double{result});
}
template <Round mode> inline float div_rounded(float a, float b) {
  const float result = a / b;
  if constexpr (mode == Round::nearest) return result;
  const double rest =
      double{a} -
      double{result} * double{b};  // its sign is the exact quotient's minus the result's, times b's
  return adjust<mode>(result, b < 0 ? -rest : rest);
}
template <Round mode> inline float sqrt_rounded(float a) {
  const float result = std::sqrt(a);
  if constexpr (mode == Round::nearest) return result;
  return adjust<mode>(result, double{a} - double{result} * double{result});
}

// f64: the processor's own rounding modes.
inline int processor_mode(Round mode) {
  return mode == Round::zero   ? FE_TOWARDZERO
         : mode == Round::down ? FE_DOWNWARD
         : mode == Round::up   ? FE_UPWARD
                               : FE_TONEAREST;
}

template <class F> [[gnu::noinline]] inline double in_mode(Round mode, F operation) {
  const int before = std::fegetround();
  std::fesetround(processor_mode(mode));
  const double result = operation();
  std::fesetround(before);
  return result;
}

template <Round mode> inline double fma_rounded(double a, double b, double c) {
  if constexpr (mode == Round::nearest) return std::fma(a, b, c);
  volatile double x = a, y = b, z = c;
  return in_mode(mode, [&] {
    volatile double r = std::fma(x, y, z);
    return r;
  });
}
template <Round mode> inline double add_rounded(double a, double b) {
  if constexpr (mode == Round::nearest) return a + b;
  volatile double x = a, y = b;
  return in_mode(mode, [&] {
    volatile double r = x + y;
    return r;
  });
}
template <Round mode> inline double mul_rounded(double a, double b) {
  if constexpr (mode == Round::nearest) return a * b;
  volatile double x = a, y = b;
  return in_mode(mode, [&] {
    volatile double r = x * y;
    return r;
  });
}
template <Round mode> inline double div_rounded(double a, double b) {
  if constexpr (mode == Round::nearest) return a / b;
  volatile double x = a, y = b;
  return in_mode(mode, [&] {
    volatile double r = x / y;
    return r;
  });
}
template <Round mode> inline double sqrt_rounded(double a) {
  if constexpr (mode == Round::nearest) return std::sqrt(a);
  volatile double x = a;
  return in_mode(mode, [&] {
    volatile double r = std::sqrt(x);
    return r;
  });
}

template <bool ftz, class T> inline T flush(T value) {
  if constexpr (ftz) {
    return std::fabs(value) < std::numeric_limits<T>::min() ? std::copysign(T{0}, value) : value;
  } else {
    return value;
  }
}

}  // namespace cudasim
