// How a pointwise function becomes an op: F has `name` and scalar templates value(x), derivative(x) and
// second(x), static unless F has parameters. See ops/gelu.cpp for one from top to bottom.
#pragma once

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/loops/loop.h"
#include "ops/loops/pointwise_parts.h"

namespace tandem::detail {

// g * f''(x): the end of the line, it has no derivative of its own.
template <class F> struct PointwiseSecond final : Op {
  F f;
  explicit PointwiseSecond(const F& f) : f(f) {}
  const char* name() const override { return F::name; }
  bool first_order_only() const override { return true; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(broadcast(name(), in[0].shape(), in[1].shape()), in[1]);
    dispatch_floating(F::name, in[1].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      map<T, T, T>(out, TimesSecond<F, C>{f}, in[0], in[1]);
    });
    return out;
  }
  Tensors vjp(const Tensor&) override { return {}; }
};

// g * f'(x).
template <class F> struct PointwiseGrad final : Op {
  F f;
  explicit PointwiseGrad(const F& f) : f(f) {}
  const char* name() const override { return F::name; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(broadcast(name(), in[0].shape(), in[1].shape()), in[1]);
    dispatch_floating(F::name, in[1].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      map<T, T, T>(out, TimesDerivative<F, C>{f}, in[0], in[1]);
    });
    save(in[0]), save(in[1]);
    return out;
  }
  Tensors vjp(const Tensor& c) override {
    return {needs(0) ? apply<PointwiseGrad<F>>({c, saved(1)}, f) : Tensor(),
            needs(1) ? apply<PointwiseSecond<F>>({c * saved(0), saved(1)}, f) : Tensor()};
  }
};

template <class F> struct Pointwise final : Op {
  F f;
  explicit Pointwise(const F& f) : f(f) {}
  const char* name() const override { return F::name; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    dispatch_floating(F::name, in[0].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      map<T, T>(out, ValueOf<F, C>{f}, in[0]);
    });
    save(in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<PointwiseGrad<F>>({g, saved(0)}, f)}; }
};

template <class F> Tensor pointwise(const Tensor& x, const F& f = {}) { return apply<Pointwise<F>>({x}, f); }

// Registers the op of a pointwise function; `input` makes its samples' inputs, away from kinks and poles.
inline RegisterOp register_pointwise(
    const char* name, Tensor (*f)(const Tensor&),
    const std::function<Tensor(SampleMaker&, const Shape&)>& input = &SampleMaker::normal) {
  return RegisterOp(name, [=](OpCases& c) {
    c.sample("3x5", {input(c, {3, 5})}, call(f));
    c.sample("number", {input(c, {})}, call(f));
    c.sample("empty", {input(c, {0, 2})}, call(f));
    c.sample("transposed", {input(c, {3, 4})}, [f](const Tensors& in) { return f(in[0].t()); });
    c.fails<DTypeError>("i64", std::string(name) + ": expected a floating dtype", {zeros({2}, {DType::i64})},
                        call(f));
  });
}

}  // namespace tandem::detail
