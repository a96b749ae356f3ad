// The ops and their samples; README.md says what computes what.
#include "ops/rdrop/rdrop.h"

#include <limits>

#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/rdrop/loss.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct RDropCrossEntropy final : rdrop::LossOp {
  using LossOp::LossOp;
  Tensor forward(const Tensors& in) override { return cross_entropy(in[0]); }
};

struct RDropMse final : rdrop::LossOp {
  using LossOp::LossOp;
  Tensor forward(const Tensors& in) override {
    const Tensor y = dense(in[0]), target = dense(in[1]);
    const Tensor gradient = recording() ? save(empty_like(y)) : Tensor();
    rdrop::LossSum sum(inputs, y, y.numel(), 1);
    sum.add_mse(y, target, gradient);
    save(y), save(target);
    return finish(sum, y);
  }
  // The distance between passes does not depend on the target. Minus the predictions' gradients would be the
  // target's but for rounding, of 16-bit ones and of the large terms that cancel over the passes.
  Tensors vjp(const Tensor& g) override {
    const Tensor dy = scaled_gradient(0, g);
    if (!needs(1)) return {dy, {}};
    Tensor error = saved(1).to(g.dtype()) - saved(2).to(g.dtype());
    if (inputs.mask.defined()) error = masked_fill(error, eq(inputs.mask, 0), 0);
    return {dy, error * (g * (-2.0 / saved(1).passes()) / divisor().to(g.dtype()))};
  }
};

}  // namespace

LossParts rdrop_cross_entropy(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                              const Tensor& valid_mask, int passes) {
  constexpr const char* op = "rdrop_cross_entropy";
  rdrop::Inputs inputs = rdrop::check_inputs(op, logits, target, valid_mask, options);
  inputs.copies = rdrop::copies_of(op, logits.passes(), passes);
  return rdrop::apply_loss<RDropCrossEntropy>({logits}, inputs);
}

LossParts rdrop_mse(const Tensor& prediction, const Tensor& target, const RDropOptions& options,
                    const Tensor& valid_mask) {
  constexpr const char* op = "rdrop_mse";
  const bool column = prediction.dim() == target.dim() + 1 && prediction.size(-1) == 1;
  const DType dtype = promote(prediction.dtype(), target.dtype());
  const Tensor y = (column ? prediction.squeeze(-1) : prediction).to(dtype);
  check<ShapeError>(y.shape() == target.shape() && target.passes() == 1,
                    "{}: prediction {} and target {}, expected equal shapes, or one more dimension of 1", op,
                    describe(prediction), describe(target));
  return rdrop::apply_loss<RDropMse>({y, target.to(dtype)}, rdrop::check_inputs(op, y, valid_mask, options));
}

namespace {

Tensor labels(const std::vector<int64_t>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}
Tensor flags(const std::vector<uint8_t>& values, const Shape& shape) {
  return from_values(values, shape).to(DType::boolean);
}
Tensor passes_of(SampleMaker& make, int m, const Shape& shape) {
  Tensors passes;
  for (int i = 0; i < m; ++i) passes.push_back(make.normal(shape));
  return stack_passes(passes);
}

Function cross_entropy_with(Tensor target, RDropOptions options, Tensor mask = {}) {
  return [=](const Tensors& in) {
    const Device device = in[0].device();
    return rdrop_cross_entropy(in[0], target.to(device), options, mask.defined() ? mask.to(device) : mask)
        .loss;
  };
}

const RegisterOp cross_entropy_op{
    "rdrop_cross_entropy",
    [](OpCases& c) {
      const Tensor three = labels({0, 3, 1});
      c.sample("one pass", {c.normal({3, 4})}, cross_entropy_with(three, {}));
      c.sample("2 passes", {passes_of(c, 2, {3, 4})}, cross_entropy_with(three, {.alpha = 5}));
      c.sample("3 passes, everything", {passes_of(c, 3, {2, 2, 4})},
               cross_entropy_with(labels({0, 3, -1, 2}).reshape({2, 2}),
                                  {.alpha = 0.7, .label_smoothing = 0.1, .ignore_index = -1, .divisor = 7},
                                  flags({1, 1, 1, 0}, {2, 2})));
      c.sample("5 passes", {passes_of(c, 5, {2, 3})}, cross_entropy_with(labels({2, 0}), {}));
      c.sample("wider than a vector", {passes_of(c, 2, {1, 21})}, cross_entropy_with(labels({20}), {}));
      c.sample("one class", {passes_of(c, 2, {2, 1})}, cross_entropy_with(labels({0, 0}), {}));
      c.sample("no unit", {passes_of(c, 2, {0, 3})}, cross_entropy_with(labels({}), {}));
      c.sample("no unit counts", {passes_of(c, 2, {1, 3})}, cross_entropy_with(labels({-100}), {}));

      const Tensor one = labels({1}), x = zeros({1, 2});
      const auto f = [](Tensor x, Tensor y, RDropOptions options = {}, Tensor mask = {}, int passes = 0) {
        return [=] { rdrop_cross_entropy(x, y, options, mask, passes); };
      };
      const double inf = std::numeric_limits<double>::infinity();
      c.fails<ConfigError>("alpha", "alpha is -1, expected", f(x, one, {.alpha = -1}));
      c.fails<ConfigError>("alpha NaN", "alpha is nan, expected", f(x, one, {.alpha = inf - inf}));
      c.fails<ConfigError>("divisor", "divisor is -2, expected", f(x, one, {.divisor = -2}));
      c.fails<ConfigError>("divisor inf", "divisor is inf, expected", f(x, one, {.divisor = inf}));
      c.fails<ConfigError>("smoothing", "label_smoothing is 1, expected a number in [0, 1)",
                           f(x, one, {.label_smoothing = 1}));
      c.fails<ShapeError>("target", "rdrop_cross_entropy: target is i64[1], expected one pass of [2]",
                          f(zeros({2, 2}), one));
      c.fails<ShapeError>("no class", "expected [units..., n] with n >= 1, got f32[1,0]",
                          f(zeros({1, 0}), one));
      c.fails<ShapeError>("mask", "valid_mask is bool[2], expected one pass of [1]",
                          f(x, one, {}, flags({1, 1}, {2})));
      c.fails<ShapeError>("passes", "a tensor of 2 passes in a step of 3",
                          f(stack_passes({x, x}), one, {}, {}, 3));
      c.fails<DTypeError>("target's dtype", "target is f32[1], expected class indices", f(x, zeros({1})));
      c.fails<DTypeError>("mask's dtype", "valid_mask is f32[1], expected bool or u8",
                          f(x, one, {}, ones({1})));
      c.fails<ValueError>("label", "target is 1 at unit 0, expected a class in [0, 1)",
                          f(zeros({1, 1}), one));
      c.fails<ValueError>("excluded target", "the target's logit is -inf at unit 0, class 1",
                          f(tensor({0, float(-inf)}, {1, 2}), one));
      c.fails<ValueError>("excluded in one pass", "but not in all passes",
                          f(stack_passes({tensor({float(-inf), 0}, {1, 2}), x}), one));
    },
    {.second_order = false, .crosses_passes = true}};

Function mse_with(RDropOptions options, Tensor mask = {}) {
  return [=](const Tensors& in) {
    return rdrop_mse(in[0], in[1], options, mask.defined() ? mask.to(in[0].device()) : mask).loss;
  };
}

const RegisterOp mse_op{
    "rdrop_mse",
    [](OpCases& c) {
      const Tensor target = c.normal({3});
      c.sample("one pass", {c.normal({3}), target}, mse_with({}));
      c.sample("2 passes, a column", {passes_of(c, 2, {3, 1}), target}, mse_with({.alpha = 2}));
      c.sample("4 passes, masked", {passes_of(c, 4, {3}), target},
               mse_with({.divisor = 5}, flags({1, 0, 1}, {3})));
      c.sample("no unit", {passes_of(c, 2, {0}), c.normal({0})}, mse_with({}));

      c.fails<ShapeError>("shapes", "rdrop_mse: prediction f32[3,2] and target f32[3], expected equal shapes",
                          [] {
                            rdrop_mse(zeros({3, 2}), zeros({3}));
                          });
      c.fails<ValueError>("not finite", "rdrop_mse: y is inf at unit 0, pass 0",
                          [] { rdrop_mse(full({1}, std::numeric_limits<double>::infinity()), zeros({1})); });
      c.fails<ConfigError>("alpha", "rdrop_mse: alpha is -1",
                           [] { rdrop_mse(zeros({3}), zeros({3}), {.alpha = -1}); });
    },
    {.second_order = false, .crosses_passes = true}};

}  // namespace
}  // namespace tandem
