// The scalar functions of ops/pointwise.cpp: value, first and second derivative.
#pragma once

#include "ops/loops/math.h"

namespace tandem::detail {

struct Abs {
  static constexpr const char* name = "abs";
  template <class T> static constexpr T value(T x) { return x <= 0 ? 0 - x : x; }  // of -0.0: 0
  template <class T> static constexpr T derivative(T x) { return T(x > 0) - T(x < 0); }
  template <class T> static constexpr T second(T) { return 0; }
};
struct Square {
  static constexpr const char* name = "square";
  template <class T> static constexpr T value(T x) { return x * x; }
  template <class T> static constexpr T derivative(T x) { return 2 * x; }
  template <class T> static constexpr T second(T) { return 2; }
};
struct Reciprocal {
  static constexpr const char* name = "reciprocal";
  template <class T> static constexpr T value(T x) { return 1 / x; }
  template <class T> static constexpr T derivative(T x) { return -1 / (x * x); }
  template <class T> static constexpr T second(T x) { return 2 / (x * x * x); }
};
struct Exp {
  static constexpr const char* name = "exp";
  template <class T> static constexpr T value(T x) { return math::exp(x); }
  template <class T> static constexpr T derivative(T x) { return math::exp(x); }
  template <class T> static constexpr T second(T x) { return math::exp(x); }
};
struct Expm1 {
  static constexpr const char* name = "expm1";
  template <class T> static constexpr T value(T x) { return math::expm1(x); }
  template <class T> static constexpr T derivative(T x) { return math::exp(x); }
  template <class T> static constexpr T second(T x) { return math::exp(x); }
};
struct Log {
  static constexpr const char* name = "log";
  template <class T> static constexpr T value(T x) { return math::log(x); }
  template <class T> static constexpr T derivative(T x) { return 1 / x; }
  template <class T> static constexpr T second(T x) { return -1 / (x * x); }
};
struct Log1p {
  static constexpr const char* name = "log1p";
  template <class T> static constexpr T value(T x) { return math::log1p(x); }
  template <class T> static constexpr T derivative(T x) { return 1 / (1 + x); }
  template <class T> static constexpr T second(T x) { return -1 / ((1 + x) * (1 + x)); }
};
struct Sqrt {
  static constexpr const char* name = "sqrt";
  template <class T> static constexpr T value(T x) { return math::sqrt(x); }
  template <class T> static constexpr T derivative(T x) { return T(0.5) / math::sqrt(x); }
  template <class T> static constexpr T second(T x) { return T(-0.25) / (x * math::sqrt(x)); }
};
struct Rsqrt {
  static constexpr const char* name = "rsqrt";
  template <class T> static constexpr T value(T x) { return 1 / math::sqrt(x); }
  template <class T> static constexpr T derivative(T x) { return T(-0.5) / (x * math::sqrt(x)); }
  template <class T> static constexpr T second(T x) { return T(0.75) / (x * x * math::sqrt(x)); }
};
struct Sin {
  static constexpr const char* name = "sin";
  template <class T> static constexpr T value(T x) { return math::sin(x); }
  template <class T> static constexpr T derivative(T x) { return math::cos(x); }
  template <class T> static constexpr T second(T x) { return -math::sin(x); }
};
struct Cos {
  static constexpr const char* name = "cos";
  template <class T> static constexpr T value(T x) { return math::cos(x); }
  template <class T> static constexpr T derivative(T x) { return -math::sin(x); }
  template <class T> static constexpr T second(T x) { return -math::cos(x); }
};
struct Erf {  // d/dx erf(x) = 2/sqrt(pi) exp(-x^2)
  static constexpr const char* name = "erf";
  static constexpr double kScale = 1.1283791670955126;
  template <class T> static constexpr T value(T x) { return math::erf(x); }
  template <class T> static constexpr T derivative(T x) { return T(kScale) * math::exp(-x * x); }
  template <class T> static constexpr T second(T x) {
    return math::vanishing(math::exp(-x * x), T(-2 * kScale) * x);
  }
};

}  // namespace tandem::detail
