// Distances between passes without cancellation. With t_i a number of pass i (log-probability, logit), p_i a
// rising function of it, and any q,
//   sum_{i != j} (p_i - p_j) (t_i - t_j) / 2 = m sum_i (p_i - q) (t_i - mean_j t_j)
// since the last factors add up to 0. With q that function's value at mean_j t_j every term is >= 0, and
//   softmax   p - q = (p + q) tanh(d / 2),                                       d = log p - log q
//   sigmoid   p - q = (p (1 - q) + (1 - p) q) tanh(d / 2),                       d = logit p - logit q
// loses no digits, whatever p and q are.
#include "ops/rdrop/rdrop.h"

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/arithmetic_kernel.h"
#include "ops/comparison.h"
#include "ops/extrema.h"
#include "ops/indexing.h"
#include "ops/loops/loop.h"
#include "ops/losses.h"
#include "ops/pointwise.h"
#include "ops/rdrop/inputs.h"
#include "ops/recorded_vjp.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/views.h"

namespace tandem {
namespace {

// Units [units], one pass: which count, and how many that are; what ce and kl are divided by.
struct Counted {
  Tensor units;  // bool
  int64_t number = 0;
  double divisor = 1;

  Counted(const Tensor& which, const RDropOptions& options) : units(which) {
    const NoGradGuard no_grad;
    number = static_cast<int64_t>(sum(which.to(DType::f32)).item());
    divisor = options.divisor > 0 ? options.divisor : static_cast<double>(number > 0 ? number : 1);
  }

  // x [..., units], or [..., units, classes] if it is wide, with 0 in units that do not count.
  Tensor cleared(const Tensor& x, bool wide = false) const {
    if (number == units.numel()) return x;
    const Tensor out = logical_not(units);
    return masked_fill(x, wide ? out.unsqueeze(-1) : out, 0);
  }
};

// [m, ...], in f32 or wider, 0 in units that do not count.
Tensor rows(const Tensor& logits, const Counted& counted) {
  return counted.cleared(logits.dtype() == DType::bf16 ? logits.to(DType::f32) : logits, true)
      .passes_as_batch();
}

// x[i] - mean over i, exact where they are near each other: first dimension.
Tensor deviations(const Tensor& x) {
  const Tensor y = x - x.select(0, 0);
  return y - mean(y, Shape{0});
}

// mean over i != j of what is said above, from (p_i - q) (t_i - mean t), [m, ...].
Tensor distance(const Tensor& terms) {
  const auto m = static_cast<double>(terms.size(0));
  return m > 1 ? sum(terms) / (m - 1) : sum(terms) * 0;
}

// (sigmoid(x) - sigmoid(x - d)) d, in one sweep each way.
struct SigmoidDistance final : Op {
  const char* name() const override { return "rdrop_binary_cross_entropy"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = save(in[0]), d = save(in[1]), out = output(x.shape(), x);
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      detail::map<T, T, T>(out, detail::BinaryValue<detail::SigmoidDistanceValue, compute_t<T>>{}, x, d);
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor x = saved(0), d = saved(1);
    if (grad_enabled()) return detail::recorded_vjp(*this, {x, d}, g, composed);
    const auto times = [&]<template <class> class F>() {
      const Tensor out = empty_like(x);
      dispatch_floating(name(), x.dtype(),
                        [&]<class T>() { detail::map<T, T, T, T>(out, F<compute_t<T>>{}, g, x, d); });
      return out;
    };
    return {needs(0) ? times.template operator()<detail::SigmoidDistanceByX>() : Tensor(),
            needs(1) ? times.template operator()<detail::SigmoidDistanceByD>() : Tensor()};
  }
  static Tensor composed(const Tensors& in) {
    const Tensor &x = in[0], &d = in[1], a = x - d;
    return (sigmoid(x) * sigmoid(-a) + sigmoid(-x) * sigmoid(a)) * tanh(d * 0.5) * d;
  }
};

LossParts parts_of(const Tensor& ce, const Tensor& kl, double alpha, const Tensor& right, int64_t valid,
                   int copies) {
  const NoGradGuard no_grad;
  LossParts parts;
  parts.ce = ce.item(), parts.kl = kl.item(), parts.valid = valid;
  parts.correct = copies * static_cast<int64_t>(sum(right.to(DType::f32)).item());
  const GradMode mode(ce.requires_grad() || kl.requires_grad());
  parts.loss = alpha > 0 ? ce + kl * (alpha / 2) : ce;
  return parts;
}

}  // namespace

LossParts weighted_rdrop_cross_entropy(const Tensor& logits, const Tensor& target,
                                       const Tensor& class_weights, const RDropOptions& options,
                                       const Tensor& valid_mask, int passes) {
  constexpr const char* op = "weighted_rdrop_cross_entropy";
  const rdrop::Inputs inputs = rdrop::check_inputs(op, logits, target, valid_mask, options);
  const int copies = rdrop::copies_of(op, logits.passes(), passes);
  const int64_t classes = logits.size(-1);
  check<ShapeError>(
      class_weights.defined() && class_weights.shape() == Shape{classes} && class_weights.passes() == 1,
      "{}: class_weights is {}, expected [{}]", op, describe(class_weights), classes);
  check<DTypeError>(is_floating(class_weights.dtype()), "{}: class_weights is {}, expected numbers", op,
                    describe(class_weights));
  rdrop::check_labels(inputs, classes);

  Tensor which = ne(inputs.target, static_cast<double>(options.ignore_index));
  if (inputs.mask.defined()) which = logical_and(which, ne(inputs.mask, 0));
  const Counted counted(which, options);
  const Tensor x = rows(logits, counted), labels = counted.cleared(inputs.target), log_p = log_softmax(x, -1);
  const Tensor weights = class_weights.detach().to(x.dtype()).to(x.device());
  const Tensor each = counted.cleared(index_select(weights, 0, labels.flatten()).reshape(labels.shape()));
  const double total = options.weight_divisor > 0 ? options.weight_divisor : sum(each).item();

  const auto m = static_cast<double>(x.size(0)), s = options.label_smoothing;
  const Tensor index = labels.unsqueeze(0).unsqueeze(-1);
  Shape picked = x.shape();
  picked[static_cast<int>(picked.size()) - 1] = 1;
  Tensor losses = gather(log_p, -1, index.expand(picked)).squeeze(-1) * each * -(1 - s);
  if (s > 0)
    losses = losses - counted.cleared(sum(log_p * weights, Shape{-1})) * (s / static_cast<double>(classes));
  const Tensor ce = sum(losses) / (m * (total > 0 ? total : 1));

  const Tensor d = deviations(x) - deviations(logsumexp(x, Shape{-1}, true)), q = exp(mean(log_p, Shape{0}));
  const Tensor kl = distance((exp(log_p) + q) * tanh(d * 0.5) * d) / counted.divisor;
  const Tensor right = logical_and(eq(argmax(x.detach(), -1), labels), counted.units);
  return parts_of(ce, kl, options.alpha, right, counted.number, copies);
}

LossParts rdrop_binary_cross_entropy(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                                     const Tensor& valid_mask, int passes) {
  constexpr const char* op = "rdrop_binary_cross_entropy";
  const Shape units = rdrop::unit_shape(op, logits);
  check<ShapeError>(target.shape() == logits.shape() && target.passes() == 1,
                    "{}: logits {} and target {}, expected one pass of equal shape", op, describe(logits),
                    describe(target));
  check<DTypeError>(is_floating(target.dtype()), "{}: target is {}, expected numbers in [0, 1]", op,
                    describe(target));
  const rdrop::Inputs inputs = rdrop::check_inputs(op, target.select(-1, 0), valid_mask, options);
  const int copies = rdrop::copies_of(op, logits.passes(), passes);

  const Tensor mask =
      inputs.mask.defined() ? ne(inputs.mask, 0) : ones(units, {DType::boolean, logits.device()});
  const Counted counted(mask, options);
  const Tensor x = rows(logits, counted), y = counted.cleared(target.detach().to(x.dtype()), true);
  const auto m = static_cast<double>(x.size(0)), s = options.label_smoothing;
  const Tensor soft = s > 0 ? y * (1 - s) + s / 2 : y;
  const Tensor losses =
      binary_cross_entropy_with_logits(x, soft.unsqueeze(0).expand(x.shape()), Reduction::none);
  const Tensor ce = sum(counted.cleared(losses, true)) / (m * counted.divisor);

  const Tensor kl = distance(apply<SigmoidDistance>({x, deviations(x)})) / counted.divisor;
  const Tensor wrong = ne(gt(x.detach(), 0), gt(y, 0.5)).to(DType::f32);
  const Tensor right = logical_and(eq(sum(wrong, Shape{-1}), 0), counted.units);
  return parts_of(ce, kl, options.alpha, right, counted.number, copies);
}

namespace {

Tensor labels(const std::vector<int64_t>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}
Tensor passes_of(SampleMaker& make, int m, const Shape& shape) {
  Tensors passes;
  for (int i = 0; i < m; ++i) passes.push_back(make.normal(shape));
  return stack_passes(passes);
}
Tensor there(const Tensor& x, const Tensor& like) { return x.defined() ? x.to(like.device()) : x; }

Function weighted(Tensor target, Tensor weights, RDropOptions options, Tensor mask = {}) {
  return [=](const Tensors& in) {
    return weighted_rdrop_cross_entropy(in[0], there(target, in[0]), there(weights, in[0]), options,
                                        there(mask, in[0]))
        .loss;
  };
}

const RegisterOp weighted_op{
    "weighted_rdrop_cross_entropy",
    [](OpCases& c) {
      const Tensor three = labels({0, 3, 1}), weights = tensor({0.5, 2, 0, 3}, {4}),
                   mask = tensor({1, 0, 1}, {3}).to(DType::boolean);
      c.sample("one pass", {c.normal({3, 4})}, weighted(three, weights, {}));
      c.sample("2 passes", {passes_of(c, 2, {3, 4})}, weighted(three, weights, {.alpha = 5}));
      c.sample(
          "3 passes, everything", {passes_of(c, 3, {3, 4})},
          weighted(
              labels({1, -1, 3}), weights,
              {.alpha = 0.7, .label_smoothing = 0.1, .ignore_index = -1, .divisor = 7, .weight_divisor = 11},
              mask));
      c.sample("no unit", {passes_of(c, 2, {0, 4})}, weighted(labels({}), weights, {}));
      c.fails<ShapeError>("weights", "class_weights is f32[4], expected [3]", {zeros({3, 3})},
                          weighted(three, weights, {}));
      c.fails<DTypeError>("integers", "class_weights is i64[3], expected numbers", {zeros({3, 3})},
                          weighted(three, three, {}));
      c.fails<ValueError>("label", "target is 3 at unit 1, expected a class in [0, 3)", {zeros({3, 3})},
                          weighted(three, ones({3}), {}));
    },
    {.crosses_passes = true}};

Function binary(Tensor target, RDropOptions options, Tensor mask = {}) {
  return [=](const Tensors& in) {
    return rdrop_binary_cross_entropy(in[0], there(target, in[0]), options, there(mask, in[0])).loss;
  };
}

const RegisterOp binary_op{
    "rdrop_binary_cross_entropy",
    [](OpCases& c) {
      const Tensor target = tensor({1, 0, 0, 1, 1, 0.25, 0, 1}, {2, 4}),
                   mask = tensor({0, 1}, {2}).to(DType::boolean);
      c.sample("one pass", {c.normal({2, 4})}, binary(target, {}));
      c.sample("2 passes", {passes_of(c, 2, {2, 4})}, binary(target, {.alpha = 5}));
      c.sample("3 passes, everything", {passes_of(c, 3, {2, 4})},
               binary(target, {.alpha = 0.7, .label_smoothing = 0.1, .divisor = 7}, mask));
      c.sample("no unit", {passes_of(c, 2, {0, 4})}, binary(zeros({0, 4}), {}));
      c.fails<ShapeError>("target", "logits f32[2,3] and target f32[2,4], expected one pass of equal shape",
                          {zeros({2, 3})}, binary(target, {}));
      c.fails<DTypeError>("labels", "target is i64[2,1], expected numbers in [0, 1]", {zeros({2, 1})},
                          binary(labels({0, 1}).reshape({2, 1}), {}));
      c.fails<ConfigError>("alpha", "rdrop_binary_cross_entropy: alpha is -1", {zeros({2, 4})},
                           binary(target, {.alpha = -1}));
    },
    {.crosses_passes = true}};

}  // namespace
}  // namespace tandem
