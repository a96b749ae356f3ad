#include "ops/comparison.h"

#include <cmath>
#include <limits>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/comparison_kernel.h"
#include "ops/loops/loop.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// F has the name and the scalar predicate. Bool tensors compare as 0 and 1.
template <class F> struct Comparison final : Op {
  const char* name() const override { return F::name; }
  Tensor forward(const Tensors& in) override {
    const Tensor out =
        output(broadcast(F::name, in[0].shape(), in[1].shape()), DType::boolean, in[0].device());
    dispatch_all(in[0].dtype(), [&]<class T>() {
      detail::map<bool, T, T>(out, detail::Holds<F, compute_t<T>>{}, in[0], in[1]);
    });
    return out;
  }
  Tensors vjp(const Tensor&) override { return {}; }
};

template <class F> Tensor compare(const Tensor& a, const Tensor& b) {
  const DType dtype = promote(a.dtype(), b.dtype());
  return apply<Comparison<F>>({a.detach().to(dtype), b.detach().to(dtype)});
}
// As numbers also where the dtype of a does not have b: then b is between two of its values, or all of them
// are on one side of it.
template <class F> Tensor compare(const Tensor& a, double b) {
  const auto beside = [&](double value) { return full({}, value, {a.dtype(), a.device()}); };
  const bool floating = is_floating(a.dtype()), for_less = F::holds(0.0, 1.0), for_more = F::holds(1.0, 0.0);
  const auto [least, above] = floating ? WholeRange{-kInfinity, kInfinity} : whole_range(a.dtype());
  const bool has =
      floating ? std::isinf(b) || !(std::abs(b) >= overflow(a.dtype()).from) : holds(a.dtype(), b);
  if (has) return compare<F>(a, beside(b));
  if (b > least && b < above - 1 && for_less != for_more) {
    const double below = !floating ? std::floor(b) : b > 0 ? overflow(a.dtype()).largest : -kInfinity;
    return for_less ? compare<detail::Le>(a, beside(below)) : compare<detail::Gt>(a, beside(below));
  }
  const bool result = std::isnan(b) ? F::holds(0.0, b) : b < least ? for_more : for_less;
  const Tensor never = compare<detail::Lt>(a, a);
  return result ? logical_not(never) : never;
}

// (2 < x) < 5 is what C++ makes of 2 < x < 5: true everywhere.
const Tensor& no_chain(const Tensor& a, double b) {
  check<DTypeError>(a.dtype() != DType::boolean || b == 0 || b == 1,
                    "comparison: {} with the number {}, where bool has 0 and 1; for 2 < x < 5 write "
                    "(x > 2) & (x < 5)",
                    describe(a), b);
  return a;
}

struct Where final : Op {
  const char* name() const override { return "where"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out =
        output(broadcast("where", broadcast("where", in[0].shape(), in[1].shape()), in[2].shape()), in[1]);
    dispatch_all(in[1].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      detail::map<T, bool, T, T>(out, detail::Choose<C>{}, in[0], in[1], in[2]);
    });
    save(in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor zero = zeros({}, {g.dtype(), g.device()});
    return {Tensor(), where(saved(0), g, zero), where(saved(0), zero, g)};
  }
};

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return compare<detail::Eq>(a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare<detail::Ne>(a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare<detail::Lt>(a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare<detail::Le>(a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare<detail::Gt>(a, b); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare<detail::Ge>(a, b); }
Tensor eq(const Tensor& a, double b) { return compare<detail::Eq>(no_chain(a, b), b); }
Tensor ne(const Tensor& a, double b) { return compare<detail::Ne>(no_chain(a, b), b); }
Tensor lt(const Tensor& a, double b) { return compare<detail::Lt>(no_chain(a, b), b); }
Tensor le(const Tensor& a, double b) { return compare<detail::Le>(no_chain(a, b), b); }
Tensor gt(const Tensor& a, double b) { return compare<detail::Gt>(no_chain(a, b), b); }
Tensor ge(const Tensor& a, double b) { return compare<detail::Ge>(no_chain(a, b), b); }
Tensor logical_and(const Tensor& a, const Tensor& b) { return compare<detail::And>(a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return compare<detail::Or>(a, b); }
Tensor logical_not(const Tensor& a) { return eq(a, 0); }

namespace {

void check_truths(const char* op, const char* instead, const Tensor& x) {
  check<DTypeError>(x.dtype() == DType::boolean, "{}: expected bool tensors, got {}; {} takes any dtype", op,
                    describe(x), instead);
}

}  // namespace

Tensor isfinite(const Tensor& x) {
  return logical_and(compare<detail::Gt>(x, -kInfinity), compare<detail::Lt>(x, kInfinity));
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && all(eq(a, b).passes_as_batch()).item<bool>();
}

bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol) {
  if (!is_floating(a.dtype()) || !is_floating(b.dtype()))
    return allclose(is_floating(a.dtype()) ? a : a.to(DType::f64),
                    is_floating(b.dtype()) ? b : b.to(DType::f64), rtol, atol);
  const Tensor distance = abs(a - b), near = le(distance, rtol * abs(b) + atol);
  return all(logical_or(eq(a, b), logical_and(isfinite(distance), near)).passes_as_batch()).item<bool>();
}

Tensor operator~(const Tensor& a) { return check_truths("operator~", "logical_not", a), logical_not(a); }
Tensor operator&(const Tensor& a, const Tensor& b) {
  for (const Tensor& x : {a, b}) check_truths("operator&", "logical_and", x);
  return logical_and(a, b);
}
Tensor operator|(const Tensor& a, const Tensor& b) {
  for (const Tensor& x : {a, b}) check_truths("operator|", "logical_or", x);
  return logical_or(a, b);
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check<DTypeError>(condition.dtype() == DType::boolean, "where: the condition must be bool, got {}",
                    describe(condition));
  const DType dtype = promote(a.dtype(), b.dtype());
  return apply<Where>({condition, a.to(dtype), b.to(dtype)});
}

Tensor where(const Tensor& condition, const Tensor& a, double b) {
  return where(condition, a, detail::beside("where", b, a));
}
Tensor where(const Tensor& condition, double a, const Tensor& b) {
  return where(condition, detail::beside("where", a, b), b);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  check<DTypeError>(mask.dtype() == DType::boolean, "masked_fill: the mask must be bool, got {}",
                    describe(mask));
  return where(mask, detail::beside("masked_fill", value, x), x);
}

Tensor clamp(const Tensor& x, double low, double high) {
  check<ValueError>(low <= high, "clamp: low {} is above high {}", low, high);
  // A bound beyond all values of an integer dtype is none.
  const auto limit = [&](const Tensor& beyond, double bound, bool binds, const Tensor& y) {
    if (!binds) return y;
    return where(beyond, detail::beside("clamp", bound, x), y);
  };
  const bool whole = !is_floating(x.dtype());
  const auto [least, above] = whole ? whole_range(x.dtype()) : WholeRange{-kInfinity, kInfinity};
  const Tensor raised = limit(compare<detail::Lt>(x, low), low, !whole || low > least, x);
  return limit(compare<detail::Gt>(x, high), high, !whole || high < above - 1, raised);
}

namespace {

RegisterOp register_comparison(const char* name, Tensor (*f)(const Tensor&, const Tensor&)) {
  const auto cases = [=](OpCases& c) {
    c.sample("row", {c.normal({3, 4}), c.normal({4})}, call(f));
    c.sample("empty", {c.normal({0, 4}), c.normal({4})}, call(f));
    c.fails<ShapeError>("shapes", std::string(name) + ": shapes [2] and [3] do not broadcast",
                        {zeros({2}), zeros({3})}, call(f));
  };
  return RegisterOp(name, cases, {.differentiable = false});
}

const RegisterOp eq_op = register_comparison("eq", eq);
const RegisterOp ne_op = register_comparison("ne", ne);
const RegisterOp lt_op = register_comparison("lt", lt);
const RegisterOp le_op = register_comparison("le", le);
const RegisterOp gt_op = register_comparison("gt", gt);
const RegisterOp ge_op = register_comparison("ge", ge);
const RegisterOp and_op = register_comparison("logical_and", logical_and);
const RegisterOp or_op = register_comparison("logical_or", logical_or);

const RegisterOp where_op("where", [](OpCases& c) {
  const auto f = [mask = c.mask({3, 4})](const Tensors& in) {
    return where(mask.to(in[0].device()), in[0], in[1]);
  };
  c.sample("equal", {c.normal({3, 4}), c.normal({3, 4})}, f);
  c.sample("broadcast", {c.normal({4}), c.normal({})}, f);
  c.sample("number", {c.normal({3, 4})}, [mask = c.mask({3, 4})](const Tensors& in) {
    return where(mask.to(in[0].device()), 2, where(!mask.to(in[0].device()), in[0], 0.5));
  });
  c.fails<DTypeError>("condition", "where: the condition must be bool, got f32[2]",
                      [] { where(zeros({2}), zeros({2}), zeros({2})); });
  c.fails<DTypeError>("half of an integer", "where: 0.5 with a tensor of i64",
                      [] { where(ones({2}, {DType::boolean}), zeros({2}, {DType::i64}), 0.5); });
});

const RegisterOp masked_fill_op("masked_fill", [](OpCases& c) {
  const Tensor mask = c.mask({4});
  c.sample("row", {c.normal({3, 4})}, bound(masked_fill)(mask, -7));
  c.fails<DTypeError>("mask", "masked_fill: the mask must be bool, got f32[2]", {zeros({2})},
                      bound(masked_fill)(zeros({2}), 1));
  c.fails<DTypeError>("300", "masked_fill: 300 with a tensor of u8, which holds whole numbers from 0 to 255",
                      {zeros({2}, {DType::u8})}, bound(masked_fill)(zeros({2}, {DType::boolean}), 300));
});

const RegisterOp clamp_op("clamp", [](OpCases& c) {
  c.sample("0 to 1", {c.away_from_zero({3, 4})}, bound(clamp)(0, 1.04321));
  c.fails<ValueError>("order", "clamp: low 1 is above high 0", {zeros({2})}, bound(clamp)(1, 0));
  c.fails<DTypeError>("half of an integer", "clamp: 0.5 with a tensor of i64, which holds whole numbers from",
                      {zeros({2}, {DType::i64})}, bound(clamp)(0.5, 2.5));
});

}  // namespace
}  // namespace tandem
