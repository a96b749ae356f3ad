// The formulas are in ops/rdrop/cpu.h, whose kernels give the value and the gradient in one call. The
// forward keeps the gradient (where one will be asked for), and the vjp multiplies it by the cotangent.
#include "ops/rdrop/rdrop.h"

#include <cmath>
#include <limits>
#include <optional>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/rdrop/device.h"
#include "ops/views.h"

namespace tandem {
namespace {

using detail::PassRows;
using detail::RDropCaller;
using detail::RDropOnDevice;
using detail::RDropOutcome;
using detail::RDropRows;
using detail::RDropUnits;

// As a kernel reads them; the memory may be a device's.
template <class T>
PassRows<T> pass_rows(const Tensor& x, int64_t row) {
  if (!x.defined()) return {};
  return {x.device_data<std::remove_const_t<T>>(), x.pass_stride(), row};
}

// `outcome` receives the parts during forward(); `copies`: passes for which one of the logits stands.
struct RDropLoss : Op {
  RDropOptions options;
  RDropUnits units;
  int copies;
  RDropOutcome* outcome;
  RDropLoss(const RDropOptions& options, const RDropUnits& units, int copies, RDropOutcome* outcome)
      : options(options), units(units), copies(copies), outcome(outcome) {}
  bool first_order_only() const override { return true; }

  // The loss as a tensor, once the sums are known and the gradient made.
  Tensor finish(const Tensor& x, const Tensor& grad, RDropOnDevice* device) {
    if (recording()) save(grad);
    set_passes(1);
    const Tensor loss = output({}, x.dtype() == DType::f64 ? DType::f64 : DType::f32, x.device());
    if (device) {
      *outcome = device->finish(loss, copies);
    } else {
      outcome->sums.correct *= copies;
      loss.fill_(outcome->sums.fit + options.alpha / 2 * outcome->sums.distance);
    }
    outcome = nullptr;
    return loss;
  }
  Tensors vjp(const Tensor& g) override { return {detail::scale_gradient(saved(0), g)}; }
};

struct RDropCrossEntropy final : RDropLoss {
  using RDropLoss::RDropLoss;
  const char* name() const override { return "rdrop_cross_entropy"; }
  Tensor forward(const Tensors& in) override {
    const Tensor logits = dense(in[0]), grad = recording() ? empty_like(logits) : Tensor();
    const int64_t classes = logits.size(-1), count = logits.numel() / classes;
    const int m = logits.passes();
    std::optional<RDropOnDevice> device;
    if (logits.device() != kCpu)
      device.emplace(RDropCaller::rdrop_cross_entropy, options, units, logits, count, classes);
    dispatch_floating(name(), logits.dtype(), [&]<class T>() {
      const auto rows = pass_rows<const T>(logits, classes);
      const auto slopes = pass_rows<T>(grad, classes);
      if (device) return device->cross_entropy<T>(m, rows, slopes, 0, count);
      outcome->sums =
          detail::rdrop_cross_entropy_rows<T>(detail::rdrop_rows(options, units, m, count, classes), rows,
                                              slopes, units.targets(), units.valid());
    });
    return finish(logits, grad, device ? &*device : nullptr);
  }
};

struct RDropMse final : RDropLoss {
  using RDropLoss::RDropLoss;
  const char* name() const override { return "rdrop_mse"; }
  Tensor forward(const Tensors& in) override {
    const Tensor y = dense(in[0]), target = dense(in[1]), grad = recording() ? empty_like(y) : Tensor();
    const int m = y.passes();
    std::optional<RDropOnDevice> device;
    if (y.device() != kCpu) device.emplace(RDropCaller::rdrop_mse, options, units, y, y.numel(), 1);
    dispatch_floating(name(), y.dtype(), [&]<class T>() {
      const auto rows = pass_rows<const T>(y, 1);
      const auto slopes = pass_rows<T>(grad, 1);
      const T* targets = target.device_data<T>();
      if (device) return device->mse<T>(m, rows, slopes, targets);
      outcome->sums = detail::rdrop_mse_rows<T>(detail::rdrop_rows(options, units, m, y.numel(), 1), rows,
                                                slopes, targets, units.valid());
    });
    return finish(y, grad, device ? &*device : nullptr);
  }
  // The distance does not depend on the target, and its gradients sum to 0 over the passes.
  Tensors vjp(const Tensor& g) override {
    const Tensor dy = detail::scale_gradient(saved(0), g);
    return {dy, needs(1) ? -dy : Tensor()};
  }
};

}  // namespace

LossParts rdrop_cross_entropy(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                              const Tensor& valid_mask, int passes) {
  constexpr const char* op = "rdrop_cross_entropy";
  const RDropUnits units =
      detail::rdrop_units(op, detail::without_last(op, logits), target, valid_mask, options);
  detail::check_device(op, "target", target, logits);
  detail::check_passes(op, logits.passes(), passes);
  RDropOutcome outcome;
  const Tensor loss =
      apply<RDropCrossEntropy>({logits}, options, units, detail::copies(logits.passes(), passes), &outcome);
  return detail::loss_parts(loss, outcome);
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
  const RDropUnits units = detail::rdrop_units(op, y.shape(), valid_mask, options);
  detail::check_device(op, "valid_mask", valid_mask, y);
  RDropOutcome outcome;
  const Tensor loss = apply<RDropMse>({y, target.to(dtype)}, options, units, 1, &outcome);
  return detail::loss_parts(loss, outcome);
}

namespace {

Tensor labels(const std::vector<int64_t>& values, const Shape& shape) { return from_values(values, shape); }
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
    {.name = "rdrop_cross_entropy",
     .samples =
         [](SampleMaker& make) {
           return Samples{
               {"one pass", {make.normal({3, 4})}, cross_entropy_with(labels({0, 3, 1}, {3}), {})},
               {"2 passes",
                {passes_of(make, 2, {3, 4})},
                cross_entropy_with(labels({0, 3, 1}, {3}), {.alpha = 5})},
               {"3 passes, everything",
                {passes_of(make, 3, {2, 2, 4})},
                cross_entropy_with(labels({0, 3, -1, 2}, {2, 2}),
                                   {.alpha = 0.7, .label_smoothing = 0.1, .ignore_index = -1, .divisor = 7},
                                   flags({1, 1, 1, 0}, {2, 2}))},
               {"5 passes", {passes_of(make, 5, {2, 3})}, cross_entropy_with(labels({2, 0}, {2}), {})},
               {"wider than a vector",
                {passes_of(make, 2, {1, 21})},
                cross_entropy_with(labels({20}, {1}), {})},
               {"one class", {passes_of(make, 2, {2, 1})}, cross_entropy_with(labels({0, 0}, {2}), {})},
               {"no unit", {passes_of(make, 2, {0, 3})}, cross_entropy_with(labels({}, {0}), {})},
               {"no unit counts", {passes_of(make, 2, {1, 3})}, cross_entropy_with(labels({-100}, {1}), {})}};
         },
     .errors =
         [] {
           const Tensor one = labels({1}, {1});
           auto f = [](Tensor x, Tensor y, RDropOptions options = {}, Tensor mask = {}, int passes = 0) {
             return [=] { rdrop_cross_entropy(x, y, options, mask, passes); };
           };
           const double inf = std::numeric_limits<double>::infinity();
           return ErrorSamples{
               fails<ConfigError>("alpha", "alpha is -1, expected", f(zeros({1, 2}), one, {.alpha = -1})),
               fails<ConfigError>("alpha NaN", "alpha is nan, expected",
                                  f(zeros({1, 2}), one, {.alpha = inf - inf})),
               fails<ConfigError>("divisor", "divisor is -2, expected",
                                  f(zeros({1, 2}), one, {.divisor = -2})),
               fails<ConfigError>("divisor inf", "divisor is inf, expected",
                                  f(zeros({1, 2}), one, {.divisor = inf})),
               fails<ConfigError>("smoothing", "label_smoothing is 1, expected a number in [0, 1)",
                                  f(zeros({1, 2}), one, {.label_smoothing = 1})),
               fails<ShapeError>("target", "rdrop_cross_entropy: target is i64[1], expected one pass of [2]",
                                 f(zeros({2, 2}), one)),
               fails<ShapeError>("no class", "expected [units..., n] with n >= 1, got f32[1,0]",
                                 f(zeros({1, 0}), one)),
               fails<ShapeError>("mask", "valid_mask is bool[2], expected one pass of [1]",
                                 f(zeros({1, 2}), one, {}, flags({1, 1}, {2}))),
               fails<ShapeError>("passes", "a tensor of 2 passes in a step of 3",
                                 f(stack_passes({zeros({1, 2}), zeros({1, 2})}), one, {}, {}, 3)),
               fails<DTypeError>("target's dtype", "target is f32[1], expected class indices",
                                 f(zeros({1, 2}), zeros({1}))),
               fails<DTypeError>("mask's dtype", "valid_mask is f32[1], expected bool or u8",
                                 f(zeros({1, 2}), one, {}, ones({1}))),
               fails<ValueError>("label", "target is 1 at unit 0, expected a class in [0, 1)",
                                 f(zeros({1, 1}), one)),
               fails<ValueError>("excluded target", "the target's logit is -inf at unit 0, class 1",
                                 f(tensor({0, float(-inf)}, {1, 2}), one)),
               fails<ValueError>("excluded in one pass", "but not in all passes",
                                 f(stack_passes({tensor({float(-inf), 0}, {1, 2}), zeros({1, 2})}), one))};
         },
     .second_order = false,
     .crosses_passes = true}};

Function mse_with(RDropOptions options, Tensor mask = {}) {
  return [=](const Tensors& in) {
    return rdrop_mse(in[0], in[1], options, mask.defined() ? mask.to(in[0].device()) : mask).loss;
  };
}

const RegisterOp mse_op{
    {.name = "rdrop_mse",
     .samples =
         [](SampleMaker& make) {
           const Tensor target = make.normal({3});
           return Samples{
               {"one pass", {make.normal({3}), target}, mse_with({})},
               {"2 passes, a column", {passes_of(make, 2, {3, 1}), target}, mse_with({.alpha = 2})},
               {"4 passes, masked",
                {passes_of(make, 4, {3}), target},
                mse_with({.divisor = 5}, flags({1, 0, 1}, {3}))},
               {"no unit", {passes_of(make, 2, {0}), make.normal({0})}, mse_with({})}};
         },
     .errors =
         [] {
           return ErrorSamples{
               fails<ShapeError>("shapes",
                                 "rdrop_mse: prediction f32[3,2] and target f32[3], expected equal shapes",
                                 [] {
                                   rdrop_mse(zeros({3, 2}), zeros({3}));
                                 }),
               fails<ValueError>("not finite", "rdrop_mse: y is inf at unit 0, pass 0",
                                 [] { rdrop_mse(full({1}, HUGE_VAL), zeros({1})); }),
               fails<ConfigError>("alpha", "rdrop_mse: alpha is -1",
                                  [] { rdrop_mse(zeros({3}), zeros({3}), {.alpha = -1}); })};
         },
     .second_order = false,
     .crosses_passes = true}};

}  // namespace
}  // namespace tandem
