#include "ops/arithmetic.h"

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic_kernel.h"
#include "ops/comparison.h"
#include "ops/loops/loop.h"
#include "ops/pointwise.h"

namespace tandem {
namespace {

// Both tensors in the dtype of the result.
struct Promoted {
  Promoted(const Tensor& x, const Tensor& y)
      : a(x.to(promote(x.dtype(), y.dtype()))), b(y.to(promote(x.dtype(), y.dtype()))) {}
  Tensor a, b;
};

// What an elementwise op of two tensors is made of: a scalar function S, and beside it the derivative.
template <class S> struct Rule : S {
  using Scalar = S;
  static constexpr bool floating_only = false, saves_inputs = true;
  static constexpr bool mixes = false;  // takes bf16 beside f32 as it is, without a copy in f32
};

constexpr bool of_bf16_and_f32(DType a, DType b) {
  return a != b && (a == DType::bf16 || b == DType::bf16) && promote(a, b) == DType::f32;
}

// An elementwise op of two tensors of one dtype; F is a Rule.
template <class F> struct Binary final : Op {
  const char* name() const override { return F::name; }
  Tensor forward(const Tensors& in) override {
    const DType dtype = promote(in[0].dtype(), in[1].dtype());
    const Tensor out = output(broadcast(F::name, in[0].shape(), in[1].shape()), dtype, in[0].device());
    if constexpr (F::mixes) {
      using Sum = detail::BinaryValue<typename F::Scalar, float>;
      if (in[0].dtype() < in[1].dtype())
        return detail::map<float, bf16, float>(out, Sum{}, in[0], in[1]), out;
      if (in[1].dtype() < in[0].dtype())
        return detail::map<float, float, bf16>(out, Sum{}, in[0], in[1]), out;
    }
    auto run = [&]<class T>() {
      using C = compute_t<T>;
      detail::map<T, T, T>(out, detail::BinaryValue<typename F::Scalar, C>{}, in[0], in[1]);
    };
    if constexpr (F::floating_only) {
      dispatch_floating(F::name, dtype, run);
    } else {
      dispatch_numeric(F::name, dtype, run);
    }
    if constexpr (F::saves_inputs) save(in[0]), save(in[1]);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return F::vjp(*this, g); }
  using Op::saved;
};

template <class F> Tensor binary(const Tensor& a, const Tensor& b) {
  if (F::mixes && of_bf16_and_f32(a.dtype(), b.dtype())) return apply<Binary<F>>({a, b});
  const Promoted x(a, b);
  return apply<Binary<F>>({x.a, x.b});
}

struct Add : Rule<detail::AddValue> {
  static constexpr bool saves_inputs = false, mixes = true;
  static Tensors vjp(const Binary<Add>&, const Tensor& g) { return {g, g}; }
};

struct Sub : Rule<detail::SubValue> {
  static constexpr bool saves_inputs = false;
  static Tensors vjp(const Binary<Sub>& op, const Tensor& g) { return {g, op.needs(1) ? -g : Tensor()}; }
};

struct Mul : Rule<detail::MulValue> {
  static Tensors vjp(const Binary<Mul>& op, const Tensor& g) {
    return {op.needs(0) ? g * op.saved(1) : Tensor(), op.needs(1) ? g * op.saved(0) : Tensor()};
  }
};

struct Div : Rule<detail::DivValue> {
  static constexpr bool floating_only = true;
  static Tensors vjp(const Binary<Div>& op, const Tensor& g) {
    const Tensor ga = g / op.saved(1);
    return {ga, op.needs(1) ? -ga * (op.saved(0) / op.saved(1)) : Tensor()};
  }
};

struct Pow : Rule<detail::PowValue> {
  static constexpr bool floating_only = true;
  // d(a^b)/da = b a^(b-1), which is 0 at b = 0; d(a^b)/db = a^b ln a, which is 0 at a = 0 unless b < 0
  static Tensors vjp(const Binary<Pow>& op, const Tensor& g) {
    const Tensor a = op.saved(0), b = op.saved(1);
    const Tensor pole = logical_and(eq(a, 0.0), eq(b, 0.0));
    const Tensor da = op.needs(0) ? g * b * pow(a, where(pole, ones_like(b), b - 1.0)) : Tensor();
    if (!op.needs(1)) return {da, {}};
    const Tensor zero = logical_and(eq(a, 0.0), ge(b, 0.0));
    return {da, g * where(zero, zeros_like(a), pow(a, b) * log(where(zero, ones_like(a), a)))};
  }
};

// max and min share the rule: the gradient goes where the value came from, half to each side of a tie, and
// to both where one is NaN.
Tensors select_vjp(const Tensor& a, const Tensor& b, const Tensor& lost_a, const Tensor& lost_b,
                   const Tensor& g) {
  const Tensor share = where(eq(a, b), g * 0.5, g);
  return {masked_fill(share, lost_a, 0), masked_fill(share, lost_b, 0)};
}

struct Maximum : Rule<detail::MaximumValue> {
  static Tensors vjp(const Binary<Maximum>& op, const Tensor& g) {
    const Tensor a = op.saved(0), b = op.saved(1);
    return select_vjp(a, b, lt(a, b), gt(a, b), g);
  }
};

struct Minimum : Rule<detail::MinimumValue> {
  static Tensors vjp(const Binary<Minimum>& op, const Tensor& g) {
    const Tensor a = op.saved(0), b = op.saved(1);
    return select_vjp(a, b, gt(a, b), lt(a, b), g);
  }
};

struct Affine final : Op {
  double factor, shift;
  Affine(double factor, double shift) : factor(factor), shift(shift) {}
  const char* name() const override { return "affine"; }
  Tensor forward(const Tensors& in) override {
    detail::check_factor(name(), in[0].dtype(), factor);
    detail::check_factor(name(), in[0].dtype(), shift);
    const Tensor out = output(in[0].shape(), in[0]);
    dispatch_numeric(name(), in[0].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      detail::map<T, T>(out, detail::AffineValue<C>{detail::factor<C>(factor), detail::factor<C>(shift)},
                        in[0]);
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {affine(g, factor, -0.0)}; }
};

// x / number, or number / x.
template <bool number_over> struct DivScalar final : Op {
  double number;
  explicit DivScalar(double number) : number(number) {}
  const char* name() const override { return "div_scalar"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    dispatch_floating(name(), in[0].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      using F = std::conditional_t<number_over, detail::NumberOver<C>, detail::OverNumber<C>>;
      detail::map<T, T>(out, F{static_cast<C>(number)}, in[0]);
    });
    if (number_over) save(in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    if (!number_over) return {g / number};
    const Tensor x = saved(0);
    return {-g * (number / x / x)};
  }
};

struct PowScalar final : Op {
  double exponent;
  explicit PowScalar(double exponent) : exponent(exponent) {}
  const char* name() const override { return "pow_scalar"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    dispatch_floating(name(), in[0].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      detail::map<T, T>(out, detail::PowScalarValue<C>{static_cast<C>(exponent)}, in[0]);
    });
    save(in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    return {exponent == 0 ? zeros_like(g) : g * pow(saved(0), exponent - 1) * exponent};
  }
};

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) { return binary<Add>(a, b); }
Tensor sub(const Tensor& a, const Tensor& b) { return binary<Sub>(a, b); }
Tensor mul(const Tensor& a, const Tensor& b) { return binary<Mul>(a, b); }
Tensor maximum(const Tensor& a, const Tensor& b) { return binary<Maximum>(a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return binary<Minimum>(a, b); }

Tensor div(const Tensor& a, const Tensor& b) { return binary<Div>(a, b); }
Tensor pow(const Tensor& a, const Tensor& b) { return binary<Pow>(a, b); }
Tensor affine(const Tensor& x, double factor, double shift) { return apply<Affine>({x}, factor, shift); }
Tensor pow(const Tensor& x, double exponent) { return apply<PowScalar>({x}, exponent); }
Tensor pow(double base, const Tensor& x) { return pow(detail::beside("pow", base, x), x); }
Tensor maximum(const Tensor& x, double number) { return maximum(x, detail::beside("maximum", number, x)); }
Tensor minimum(const Tensor& x, double number) { return minimum(x, detail::beside("minimum", number, x)); }
Tensor operator/(const Tensor& x, double s) {
  check<DTypeError>(is_floating(x.dtype()), "{} / {}: expected a floating dtype; convert it with to()",
                    describe(x), s);
  return apply<DivScalar<false>>({x}, s);
}
Tensor operator/(double s, const Tensor& x) {
  check<DTypeError>(is_floating(x.dtype()), "{} / {}: expected a floating dtype; convert it with to()", s,
                    describe(x));
  return apply<DivScalar<true>>({x}, s);
}

namespace {

using Make = std::function<Tensor(SampleMaker&, const Shape&)>;

// Samples of every way in which two shapes meet: equal, a row, a column, a number, both stretched, empty.
RegisterOp register_binary(const char* name, Tensor (*f)(const Tensor&, const Tensor&), const Make& left,
                           const Make& right) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto sample = [&](const char* label, const Shape& a, const Shape& b) {
      c.sample(label, {left(c, a), right(c, b)}, call(f));
    };
    sample("equal", {3, 4}, {3, 4});
    sample("row", {3, 4}, {4});
    sample("column", {3, 1}, {3, 4});
    sample("number", {3, 4}, {});
    sample("both", {2, 1, 3}, {4, 1});
    sample("empty", {0, 3}, {3});
    c.fails<ShapeError>("shapes", std::string(name) + ": shapes [2,3] and [4] do not broadcast",
                        {zeros({2, 3}), zeros({4})}, call(f));
    const Tensor truth = zeros({2}, {DType::boolean});
    c.fails<DTypeError>("bool", std::string(name) + ": expected a", {truth, truth}, call(f));
  });
}

constexpr auto any = &SampleMaker::normal;
constexpr auto nonzero = &SampleMaker::away_from_zero;
constexpr auto far_apart = &SampleMaker::distinct;
constexpr auto positive = [](SampleMaker& make, const Shape& shape) { return make.uniform(shape, 0.3, 2); };

const RegisterOp add_op = register_binary("add", add, any, any);
const RegisterOp sub_op = register_binary("sub", sub, any, any);
const RegisterOp mul_op = register_binary("mul", mul, any, any);
const RegisterOp div_op = register_binary("div", div, any, nonzero);
const RegisterOp pow_op = register_binary("pow", pow, positive, any);
const RegisterOp maximum_op = register_binary("maximum", maximum, far_apart, far_apart);
const RegisterOp minimum_op = register_binary("minimum", minimum, far_apart, far_apart);

const RegisterOp affine_op("affine", [](OpCases& c) {
  const Function f = [](const Tensors& in) { return affine(in[0], -2, 3); };
  c.sample("-2x+3", {c.normal({3, 4})}, f);
  c.sample("empty", {c.normal({0})}, f);
  c.fails<DTypeError>("bool", "affine: expected a numeric dtype, got bool", {zeros({2}, {DType::boolean})},
                      f);
  c.fails<DTypeError>("half of an integer", "affine: 0.5 with a tensor of i64",
                      [] { zeros({2}, {DType::i64}) * 0.5; });
});

const RegisterOp div_scalar_op("div_scalar", [](OpCases& c) {
  c.sample("x/7", {c.normal({3, 4})}, [](const Tensors& in) { return in[0] / 7.0; });
  c.sample("7/x", {c.away_from_zero({3, 4})}, [](const Tensors& in) { return 7.0 / in[0]; });
  c.sample("empty", {c.normal({0})}, [](const Tensors& in) { return in[0] / 2.0; });
  c.fails<DTypeError>("i64", "i64[2] / 2: expected a floating dtype; convert it with to()",
                      {zeros({2}, {DType::i64})}, [](const Tensors& in) { return in[0] / 2; });
});

const RegisterOp pow_scalar_op("pow_scalar", [](OpCases& c) {
  const auto to_the = [](double exponent) { return [=](const Tensors& in) { return pow(in[0], exponent); }; };
  c.sample("x^2.5", {c.uniform({3, 4}, 0.3, 2)}, to_the(2.5));
  c.sample("x^-1", {c.away_from_zero({5})}, to_the(-1));
  c.sample("x^0", {c.normal({5})}, to_the(0));
  c.fails<DTypeError>("i64", "pow_scalar: expected a floating dtype", {zeros({2}, {DType::i64})}, to_the(2));
});

}  // namespace
}  // namespace tandem
