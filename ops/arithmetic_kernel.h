// The scalar functions of arithmetic, of two values and of a value and a number.
#pragma once

#include "ops/loops/math.h"

namespace tandem::detail {

// F::value in the type of computation.
template <class F, class C> struct BinaryValue {
  constexpr C operator()(C a, C b) const { return static_cast<C>(F::value(a, b)); }
};

struct AddValue {
  static constexpr const char* name = "add";
  template <class T> static constexpr T value(T a, T b) { return math::plus(a, b); }
};
struct SubValue {
  static constexpr const char* name = "sub";
  template <class T> static constexpr T value(T a, T b) { return math::minus(a, b); }
};
struct MulValue {
  static constexpr const char* name = "mul";
  template <class T> static constexpr T value(T a, T b) { return math::times(a, b); }
};
struct DivValue {
  static constexpr const char* name = "div";
  template <class T> static constexpr T value(T a, T b) { return a / b; }
};
struct PowValue {
  static constexpr const char* name = "pow";
  template <class T> static constexpr T value(T a, T b) { return static_cast<T>(math::pow(a, b)); }
};
struct MaximumValue {
  static constexpr const char* name = "maximum";
  template <class T> static constexpr T value(T a, T b) {
    return a > b || a != a ? a : b;
  }  // NaN from either side
};
struct MinimumValue {
  static constexpr const char* name = "minimum";
  template <class T> static constexpr T value(T a, T b) { return a < b || a != a ? a : b; }
};

// -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) of logit x and target t, without cancellation: a prediction
// that is right has a small loss, one that is certain and right 0.
struct BinaryCrossEntropyValue {
  template <class T> static constexpr T value(T x, T t) {
    const T wrong = x > 0 ? 1 - t : t, distance = x < 0 ? -x : x;
    return math::log1p(math::exp(-distance)) + math::vanishing(wrong, distance);
  }
};

// sigmoid(x) and sigmoid(-x), each exact where it is small.
template <class C> struct Sigmoids {
  C of, of_negative;
  constexpr explicit Sigmoids(C x) {
    const C e = math::exp(x < 0 ? x : -x), large = 1 / (1 + e), small = e / (1 + e);
    of = x < 0 ? small : large, of_negative = x < 0 ? large : small;
  }
};
// g times the derivative of BinaryCrossEntropyValue with respect to x.
template <class C> struct BinaryCrossEntropyGrad {
  constexpr C operator()(C g, C x, C t) const {
    const Sigmoids<C> p(x);
    return g * ((1 - t) * p.of - t * p.of_negative);
  }
};

// (sigmoid(x) - sigmoid(a)) d, where a = x - d, of x and d, without cancellation: p - q of two sigmoids is
// (p (1 - q) + (1 - p) q) tanh(d / 2).
template <class C> struct SigmoidDifference {
  Sigmoids<C> p, q;
  C difference;
  constexpr SigmoidDifference(C x, C d)
      : p(x), q(x - d), difference((p.of * q.of_negative + p.of_negative * q.of) * math::tanh(d / 2)) {}
};
struct SigmoidDistanceValue {
  template <class T> static constexpr T value(T x, T d) { return SigmoidDifference<T>(x, d).difference * d; }
};
// g times its derivatives: with respect to x, (p - q) (1 - p - q) d, and to d, p - q + q (1 - q) d.
template <class C> struct SigmoidDistanceByX {
  constexpr C operator()(C g, C x, C d) const {
    const SigmoidDifference<C> s(x, d);
    return g * (s.difference * (s.p.of_negative - s.q.of) * d);
  }
};
template <class C> struct SigmoidDistanceByD {
  constexpr C operator()(C g, C x, C d) const {
    const SigmoidDifference<C> s(x, d);
    return g * (s.difference + s.q.of * s.q.of_negative * d);
  }
};

template <class C> struct AffineValue {
  C factor, shift;
  constexpr C operator()(C x) const { return math::plus(math::times(factor, x), shift); }
};
template <class C> struct OverNumber {
  C number;
  constexpr C operator()(C x) const { return x / number; }
};
template <class C> struct NumberOver {
  C number;
  constexpr C operator()(C x) const { return number / x; }
};
template <class C> struct PowScalarValue {
  C exponent;
  constexpr C operator()(C x) const { return static_cast<C>(math::pow(x, exponent)); }
};

}  // namespace tandem::detail
