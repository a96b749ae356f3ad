// The scalar functions of GELU, compiled by host and device; linear and feed_forward have them fused. In both
// forms f is `value`, f' is `derivative` and f'' is `second`.
#pragma once

#include "ops/loops/math.h"

namespace tandem::detail {

// f = x Phi,  f' = Phi + x phi,  f'' = phi (2 - x^2),  of the normal distribution's
// Phi(x) = (1 + erf(x / sqrt 2)) / 2  and its density  phi(x) = e^(-x^2 / 2) / sqrt(2 pi).
struct GeluExact {
  static constexpr const char* name = "gelu";
  template <class T> static constexpr T Phi(T x) {
    return T(0.5) * (1 + math::erf(x * T(0.70710678118654752)));
  }
  template <class T> static constexpr T phi(T x) {
    return T(0.39894228040143268) * math::exp(T(-0.5) * x * x);
  }
  template <class T> static constexpr T value(T x) { return math::vanishing(Phi(x), x); }
  template <class T> static constexpr T derivative(T x) { return Phi(x) + math::vanishing(phi(x), x); }
  template <class T> static constexpr T second(T x) { return math::vanishing(phi(x), 2 - x * x); }
};

// f = x (1 + t) / 2  of  t = tanh u  and  u = c (x + 0.044715 x^3),  c = sqrt(2 / pi).
// f' = (1 + t) / 2 + x s u' / 2,  f'' = s u' + x s (u'' - 2 t u'^2) / 2,  where  s = dt/du = 1 - t^2.
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  template <class T> static constexpr T u(T x) {
    return T(0.79788456080286536) * x * (1 + T(0.044715) * x * x);
  }
  template <class T> static constexpr T du(T x) {
    return T(0.79788456080286536) * (1 + T(3 * 0.044715) * x * x);
  }
  template <class T> static constexpr T d2u(T x) { return T(0.79788456080286536 * 6 * 0.044715) * x; }
  template <class T> static constexpr T value(T x) {
    return math::vanishing(T(0.5) * (1 + math::tanh(u(x))), x);
  }
  template <class T> static constexpr T derivative(T x) {
    const T t = math::tanh(u(x));
    return T(0.5) * (1 + t) + math::vanishing(1 - t * t, T(0.5) * x * du(x));
  }
  template <class T> static constexpr T second(T x) {
    const T t = math::tanh(u(x)), s = 1 - t * t;
    return math::vanishing(s, du(x) + T(0.5) * x * (d2u(x) - 2 * t * du(x) * du(x)));
  }
};

}  // namespace tandem::detail
