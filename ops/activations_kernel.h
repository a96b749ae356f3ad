// The scalar functions of the activations: value, first and second derivative.
#pragma once

#include "ops/loops/math.h"

namespace tandem::detail {

struct Relu {
  static constexpr const char* name = "relu";
  static constexpr bool kGate = true;
  template <class T> static constexpr T value(T x) {
    return x < 0 ? T(0) : x;  // NaN stays NaN
  }
  template <class T> static constexpr T derivative(T x) { return x > 0 ? T(1) : T(0); }
  template <class T> static constexpr T second(T) { return 0; }
};

struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  double slope;
  template <class T> constexpr T value(T x) const {
    return x > 0   ? x
           : x < 0 ? math::vanishing(static_cast<T>(slope), x)
                   : x * static_cast<T>(slope);  // NaN stays
  }
  template <class T> constexpr T derivative(T x) const { return x > 0 ? T(1) : static_cast<T>(slope); }
  template <class T> constexpr T second(T) const { return 0; }
};

struct Elu {
  static constexpr const char* name = "elu";
  double alpha;
  template <class T> constexpr T value(T x) const {
    return x > 0 ? x : static_cast<T>(alpha) * math::expm1(x);
  }
  template <class T> constexpr T derivative(T x) const {
    return x > 0 ? T(1) : static_cast<T>(alpha) * math::exp(x);
  }
  template <class T> constexpr T second(T x) const {
    return x > 0 ? T(0) : static_cast<T>(alpha) * math::exp(x);
  }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  template <class T> static constexpr T value(T x) { return math::tanh(x); }
  template <class T> static constexpr T derivative(T x) {
    const T t = math::tanh(x);
    return 1 - t * t;
  }
  template <class T> static constexpr T second(T x) {
    const T t = math::tanh(x);
    return -2 * t * (1 - t * t);
  }
};

// s (1 - s) by way of e^-|x|: 1 - s loses all digits where s is near 1.
template <class T> constexpr T sigmoid_derivative(T x) {
  const T e = math::exp(x < 0 ? x : -x);
  return e / ((1 + e) * (1 + e));
}

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  template <class T> static constexpr T value(T x) { return math::sigmoid(x); }
  template <class T> static constexpr T derivative(T x) { return sigmoid_derivative(x); }
  template <class T> static constexpr T second(T x) {
    return sigmoid_derivative(x) * (1 - 2 * math::sigmoid(x));
  }
};

struct Silu {  // x s(x): s + x s', 2 s' + x s''
  static constexpr const char* name = "silu";
  template <class T> static constexpr T value(T x) { return math::vanishing(math::sigmoid(x), x); }
  template <class T> static constexpr T derivative(T x) {
    return math::sigmoid(x) + math::vanishing(sigmoid_derivative(x), x);
  }
  template <class T> static constexpr T second(T x) {
    return math::vanishing(sigmoid_derivative(x), 2 + x * (1 - 2 * math::sigmoid(x)));
  }
};

struct Softplus {  // log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which does not overflow
  static constexpr const char* name = "softplus";
  template <class T> static constexpr T value(T x) {
    return (x < 0 ? T(0) : x) + math::log1p(math::exp(x < 0 ? x : -x));
  }
  template <class T> static constexpr T derivative(T x) { return math::sigmoid(x); }
  template <class T> static constexpr T second(T x) { return sigmoid_derivative(x); }
};

}  // namespace tandem::detail
