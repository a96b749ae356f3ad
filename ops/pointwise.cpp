#include "ops/pointwise.h"

#include "ops/detail/math.h"
#include "ops/detail/pointwise.h"

namespace tandem {
namespace {

struct Abs {
  static constexpr const char* name = "abs";
  template <class T>
  static T value(T x) {
    return x < 0 ? -x : x;
  }
  template <class T>
  static T derivative(T x) {
    return T(x > 0) - T(x < 0);
  }
  template <class T>
  static T second(T) {
    return 0;
  }
};
struct Square {
  static constexpr const char* name = "square";
  template <class T>
  static T value(T x) {
    return x * x;
  }
  template <class T>
  static T derivative(T x) {
    return 2 * x;
  }
  template <class T>
  static T second(T) {
    return 2;
  }
};
struct Reciprocal {
  static constexpr const char* name = "reciprocal";
  template <class T>
  static T value(T x) {
    return 1 / x;
  }
  template <class T>
  static T derivative(T x) {
    return -1 / (x * x);
  }
  template <class T>
  static T second(T x) {
    return 2 / (x * x * x);
  }
};
struct Exp {
  static constexpr const char* name = "exp";
  template <class T>
  static T value(T x) {
    return math::exp(x);
  }
  template <class T>
  static T derivative(T x) {
    return math::exp(x);
  }
  template <class T>
  static T second(T x) {
    return math::exp(x);
  }
};
struct Expm1 {
  static constexpr const char* name = "expm1";
  template <class T>
  static T value(T x) {
    return math::expm1(x);
  }
  template <class T>
  static T derivative(T x) {
    return math::exp(x);
  }
  template <class T>
  static T second(T x) {
    return math::exp(x);
  }
};
struct Log {
  static constexpr const char* name = "log";
  template <class T>
  static T value(T x) {
    return math::log(x);
  }
  template <class T>
  static T derivative(T x) {
    return 1 / x;
  }
  template <class T>
  static T second(T x) {
    return -1 / (x * x);
  }
};
struct Log1p {
  static constexpr const char* name = "log1p";
  template <class T>
  static T value(T x) {
    return math::log1p(x);
  }
  template <class T>
  static T derivative(T x) {
    return 1 / (1 + x);
  }
  template <class T>
  static T second(T x) {
    return -1 / ((1 + x) * (1 + x));
  }
};
struct Sqrt {
  static constexpr const char* name = "sqrt";
  template <class T>
  static T value(T x) {
    return math::sqrt(x);
  }
  template <class T>
  static T derivative(T x) {
    return T(0.5) / math::sqrt(x);
  }
  template <class T>
  static T second(T x) {
    return T(-0.25) / (x * math::sqrt(x));
  }
};
struct Rsqrt {
  static constexpr const char* name = "rsqrt";
  template <class T>
  static T value(T x) {
    return 1 / math::sqrt(x);
  }
  template <class T>
  static T derivative(T x) {
    return T(-0.5) / (x * math::sqrt(x));
  }
  template <class T>
  static T second(T x) {
    return T(0.75) / (x * x * math::sqrt(x));
  }
};
struct Sin {
  static constexpr const char* name = "sin";
  template <class T>
  static T value(T x) {
    return math::sin(x);
  }
  template <class T>
  static T derivative(T x) {
    return math::cos(x);
  }
  template <class T>
  static T second(T x) {
    return -math::sin(x);
  }
};
struct Cos {
  static constexpr const char* name = "cos";
  template <class T>
  static T value(T x) {
    return math::cos(x);
  }
  template <class T>
  static T derivative(T x) {
    return -math::sin(x);
  }
  template <class T>
  static T second(T x) {
    return -math::cos(x);
  }
};
struct Erf {  // d/dx erf(x) = 2/sqrt(pi) exp(-x^2)
  static constexpr const char* name = "erf";
  static constexpr double kScale = 1.1283791670955126;
  template <class T>
  static T value(T x) {
    return math::erf(x);
  }
  template <class T>
  static T derivative(T x) {
    return T(kScale) * math::exp(-x * x);
  }
  template <class T>
  static T second(T x) {
    return T(-2 * kScale) * x * math::exp(-x * x);
  }
};

}  // namespace

using detail::pointwise;
Tensor neg(const Tensor& x) { return affine(x, -1, 0); }
Tensor abs(const Tensor& x) { return pointwise<Abs>(x); }
Tensor square(const Tensor& x) { return pointwise<Square>(x); }
Tensor reciprocal(const Tensor& x) { return pointwise<Reciprocal>(x); }
Tensor exp(const Tensor& x) { return pointwise<Exp>(x); }
Tensor expm1(const Tensor& x) { return pointwise<Expm1>(x); }
Tensor log(const Tensor& x) { return pointwise<Log>(x); }
Tensor log1p(const Tensor& x) { return pointwise<Log1p>(x); }
Tensor sqrt(const Tensor& x) { return pointwise<Sqrt>(x); }
Tensor rsqrt(const Tensor& x) { return pointwise<Rsqrt>(x); }
Tensor sin(const Tensor& x) { return pointwise<Sin>(x); }
Tensor cos(const Tensor& x) { return pointwise<Cos>(x); }
Tensor erf(const Tensor& x) { return pointwise<Erf>(x); }

namespace {

using namespace detail;
const RegisterOp abs_op{pointwise_info("abs", abs, nonzero_input)};
const RegisterOp square_op{pointwise_info("square", square, any_input)};
const RegisterOp reciprocal_op{pointwise_info("reciprocal", reciprocal, nonzero_input)};
const RegisterOp exp_op{pointwise_info("exp", exp, any_input)};
const RegisterOp expm1_op{pointwise_info("expm1", expm1, any_input)};
const RegisterOp log_op{pointwise_info("log", log, positive_input)};
const RegisterOp log1p_op{pointwise_info("log1p", log1p, positive_input)};
const RegisterOp sqrt_op{pointwise_info("sqrt", sqrt, positive_input)};
const RegisterOp rsqrt_op{pointwise_info("rsqrt", rsqrt, positive_input)};
const RegisterOp sin_op{pointwise_info("sin", sin, any_input)};
const RegisterOp cos_op{pointwise_info("cos", cos, any_input)};
const RegisterOp erf_op{pointwise_info("erf", erf, any_input)};

}  // namespace
}  // namespace tandem
