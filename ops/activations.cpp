// Activations whose derivatives are one-liners; gelu, which has two forms, is in gelu.cpp.
#include "ops/activations.h"

#include "ops/detail/math.h"
#include "ops/detail/pointwise.h"

namespace tandem {
namespace {

struct Relu {
  static constexpr const char* name = "relu";
  template <class T>
  static T value(T x) {
    return x < 0 ? T(0) : x;  // NaN stays NaN
  }
  template <class T>
  static T derivative(T x) {
    return x > 0 ? T(1) : T(0);
  }
  template <class T>
  static T second(T) {
    return 0;
  }
};

struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  double slope;
  template <class T>
  T value(T x) const {
    return x > 0 ? x : x * static_cast<T>(slope);
  }
  template <class T>
  T derivative(T x) const {
    return x > 0 ? T(1) : static_cast<T>(slope);
  }
  template <class T>
  T second(T) const {
    return 0;
  }
};

struct Elu {
  static constexpr const char* name = "elu";
  double alpha;
  template <class T>
  T value(T x) const {
    return x > 0 ? x : static_cast<T>(alpha) * math::expm1(x);
  }
  template <class T>
  T derivative(T x) const {
    return x > 0 ? T(1) : static_cast<T>(alpha) * math::exp(x);
  }
  template <class T>
  T second(T x) const {
    return x > 0 ? T(0) : static_cast<T>(alpha) * math::exp(x);
  }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  template <class T>
  static T value(T x) {
    return math::tanh(x);
  }
  template <class T>
  static T derivative(T x) {
    const T t = math::tanh(x);
    return 1 - t * t;
  }
  template <class T>
  static T second(T x) {
    const T t = math::tanh(x);
    return -2 * t * (1 - t * t);
  }
};

// s (1 - s) by way of e^-|x|: 1 - s loses all digits where s is near 1.
template <class T>
T sigmoid_slope(T x) {
  const T e = math::exp(x < 0 ? x : -x);
  return e / ((1 + e) * (1 + e));
}

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  template <class T>
  static T value(T x) {
    return math::sigmoid(x);
  }
  template <class T>
  static T derivative(T x) {
    return sigmoid_slope(x);
  }
  template <class T>
  static T second(T x) {
    return sigmoid_slope(x) * (1 - 2 * math::sigmoid(x));
  }
};

struct Silu {  // x s(x): s + x s', 2 s' + x s''
  static constexpr const char* name = "silu";
  template <class T>
  static T value(T x) {
    return x * math::sigmoid(x);
  }
  template <class T>
  static T derivative(T x) {
    return math::sigmoid(x) + x * sigmoid_slope(x);
  }
  template <class T>
  static T second(T x) {
    return sigmoid_slope(x) * (2 + x * (1 - 2 * math::sigmoid(x)));
  }
};

struct Softplus {  // log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which does not overflow
  static constexpr const char* name = "softplus";
  template <class T>
  static T value(T x) {
    return (x < 0 ? T(0) : x) + math::log1p(math::exp(x < 0 ? x : -x));
  }
  template <class T>
  static T derivative(T x) {
    return math::sigmoid(x);
  }
  template <class T>
  static T second(T x) {
    return sigmoid_slope(x);
  }
};

}  // namespace

using detail::pointwise;
Tensor relu(const Tensor& x) { return pointwise<Relu>(x); }
Tensor silu(const Tensor& x) { return pointwise<Silu>(x); }
Tensor tanh(const Tensor& x) { return pointwise<Tanh>(x); }
Tensor sigmoid(const Tensor& x) { return pointwise<Sigmoid>(x); }
Tensor softplus(const Tensor& x) { return pointwise<Softplus>(x); }
Tensor leaky_relu(const Tensor& x, double negative_slope) { return pointwise(x, LeakyRelu{negative_slope}); }
Tensor elu(const Tensor& x, double alpha) { return pointwise(x, Elu{alpha}); }

namespace {

using namespace detail;
const RegisterOp relu_op{pointwise_info("relu", relu, nonzero_input)};
const RegisterOp silu_op{pointwise_info("silu", silu, any_input)};
const RegisterOp tanh_op{pointwise_info("tanh", tanh, any_input)};
const RegisterOp sigmoid_op{pointwise_info("sigmoid", sigmoid, any_input)};
const RegisterOp softplus_op{pointwise_info("softplus", softplus, any_input)};
const RegisterOp leaky_relu_op{pointwise_info(
    "leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.3); }, nonzero_input)};
const RegisterOp elu_op{pointwise_info(
    "elu", [](const Tensor& x) { return elu(x, 0.7); }, nonzero_input)};

}  // namespace
}  // namespace tandem
