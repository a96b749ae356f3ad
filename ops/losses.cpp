// cross_entropy is one sweep of the R-Drop kernel with one pass; with P = softmax(z), its gradient is
//   dz = (P - q) / divisor,  q = (1 - s) onehot(target) + s / classes
// kept by the forward, and written again in Tensor ops where a second derivative is asked for. The others are
// composed.
#include "ops/losses.h"

#include <cmath>

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "ops/rdrop/device.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/views.h"

namespace tandem {
namespace {

using detail::RDropCaller;

Tensor reduce(const Tensor& x, Reduction reduction) {
  return reduction == Reduction::none ? x : reduction == Reduction::sum ? sum(x) : mean(x);
}

void check_equal(const char* op, const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.shape() == b.shape(), "{}: expected equal shapes, got {} and {}", op, describe(a),
                    describe(b));
}

// Units of one pass of x [..., classes], labels checked, on a device only by what is made of them.
detail::RDropUnits labelled(RDropCaller caller, const Tensor& x, const Tensor& target,
                            const RDropOptions& options) {
  const detail::RDropUnits units =
      detail::rdrop_units(name_of(caller), detail::without_last(name_of(caller), x), target, {}, options);
  detail::check_device(name_of(caller), "target", target, x);
  for (int64_t u = 0; target.device() == kCpu && u < target.numel(); ++u) {
    const int64_t label = units.targets()[u];
    if (label == options.ignore_index || (label >= 0 && label < x.size(-1))) continue;
    detail::RDropFault{.error = detail::RDropError::label, .unit = u, .value = static_cast<double>(label)}
        .raise_error(caller, x.size(-1), options.ignore_index);
  }
  return units;
}

struct CrossEntropy final : Op {
  static constexpr bool one_pass_at_a_time = true;
  RDropOptions options;
  detail::RDropUnits units;
  Tensor divisor;  // f64 []
  CrossEntropy(const RDropOptions& options, const detail::RDropUnits& units)
      : options(options), units(units) {}
  const char* name() const override { return "cross_entropy"; }

  Tensor forward(const Tensors& in) override {
    const Tensor logits = dense(in[0]), grad = recording() ? empty_like(logits) : Tensor();
    const int64_t classes = logits.size(-1);
    const int64_t count = logits.numel() / classes;
    const Tensor loss = output({}, logits.dtype() == DType::f64 ? DType::f64 : DType::f32, logits.device());
    divisor = tandem::empty({}, {DType::f64, logits.device()});
    dispatch_floating(name(), logits.dtype(), [&]<class T>() {
      const detail::PassRows<const T> rows{logits.device_data<T>(), 0, classes};
      const detail::PassRows<T> slopes{grad.defined() ? grad.device_data<T>() : nullptr, 0, classes};
      if (logits.device() != kCpu) {
        detail::RDropOnDevice device(RDropCaller::cross_entropy, options, units, logits, count, classes,
                                     false);
        device.cross_entropy<T>(1, rows, slopes, 0, count);
        divisor = device.finish(loss, 1).device.select(0, detail::rdrop_slot::divisor);
        return;
      }
      const detail::RDropRows problem = detail::rdrop_rows(options, units, 1, count, classes);
      divisor.fill_(problem.divisor);
      loss.fill_(detail::rdrop_cross_entropy_rows<T>(problem, rows, slopes, units.targets(), nullptr).fit);
    });
    if (grad.defined()) save(grad), save(in[0]);
    return loss;
  }

  Tensors vjp(const Tensor& g) override {
    if (!grad_enabled()) return {detail::scale_gradient(saved(0), g)};
    const Tensor logits = saved(1), real = gt(logits, -HUGE_VAL).to(logits.dtype());
    const Tensor ignored = eq(units.target, static_cast<double>(options.ignore_index));
    const Tensor labels = masked_fill(units.target, ignored, 0);
    const Tensor hot = one_hot(labels, logits.size(-1), logits.dtype());
    const Tensor q =
        hot * (1 - options.label_smoothing) + real * options.label_smoothing / sum(real, {-1}, true);
    return {masked_fill(softmax(logits, -1) - q, ignored.unsqueeze(-1), 0) * (g / divisor.to(g.dtype()))};
  }
};

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, Reduction reduction,
                int64_t ignore_index) {
  const RDropOptions options{.ignore_index = ignore_index};
  const detail::RDropUnits units = labelled(RDropCaller::nll_loss, log_probabilities, target, options);
  Tensor sums;
  if (target.device() != kCpu)
    sums = detail::count_units(RDropCaller::nll_loss, options, units, log_probabilities, target.numel(),
                               log_probabilities.size(-1), recorded_scalars() == nullptr);
  const Tensor ignored = eq(units.target, static_cast<double>(ignore_index));
  const Tensor labels = masked_fill(units.target, ignored, 0);
  const Tensor picked = gather(log_probabilities, -1, labels.unsqueeze(-1)).squeeze(-1);
  const Tensor losses = masked_fill(-picked, ignored, 0);
  if (reduction != Reduction::mean) return reduce(losses, reduction);
  if (sums.defined()) {
    const Tensor total = sum(losses);
    return total / sums.select(0, detail::rdrop_slot::divisor).to(total.dtype());
  }
  return sum(losses) / static_cast<double>(std::max<int64_t>(1, units.counted));
}

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  RDropOptions rows{.alpha = 0,
                    .label_smoothing = options.label_smoothing,
                    .ignore_index = options.ignore_index,
                    .divisor = options.divisor};
  const detail::RDropUnits units = labelled(RDropCaller::cross_entropy, logits, target, rows);
  if (options.reduction == Reduction::sum) rows.divisor = 1;
  if (options.reduction != Reduction::none) return apply<CrossEntropy>({logits}, rows, units);
  const Tensor log_p = log_softmax(logits, -1);
  const Tensor nll = nll_loss(log_p, target, Reduction::none, options.ignore_index);
  if (options.label_smoothing == 0) return nll;
  const Tensor ignored = eq(units.target, static_cast<double>(options.ignore_index));
  const Tensor excluded = logical_not(gt(log_p, -HUGE_VAL));
  const Tensor classes = sum(logical_not(excluded).to(log_p.dtype()), {-1});
  const Tensor smooth = -sum(masked_fill(log_p, excluded, 0), {-1}) / classes;
  return nll * (1 - options.label_smoothing) + masked_fill(smooth, ignored, 0) * options.label_smoothing;
}

Tensor mse_loss(const Tensor& a, const Tensor& b, Reduction reduction) {
  check_equal("mse_loss", a, b);
  return reduce(square(a - b), reduction);
}

Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target, Reduction reduction) {
  check_equal("binary_cross_entropy_with_logits", logits, target);
  return reduce(softplus(logits) - logits * target, reduction);
}

Tensor kl_div(const Tensor& log_probabilities, const Tensor& target, Reduction reduction, bool log_target) {
  check_equal("kl_div", log_probabilities, target);
  if (log_target) return reduce(exp(target) * (target - log_probabilities), reduction);
  const Tensor none = eq(target, 0);
  const Tensor terms = target * (log(masked_fill(target, none, 1)) - log_probabilities);
  return reduce(masked_fill(terms, none, 0), reduction);
}

namespace {

Tensor labels(const std::vector<int64_t>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}

const RegisterOp cross_entropy_op{
    {.name = "cross_entropy",
     .samples =
         [](SampleMaker& make) {
           auto with = [](const std::vector<int64_t>& target, CrossEntropyOptions options) {
             return [=](const Tensors& in) {
               return cross_entropy(in[0], labels(target).to(in[0].device()), options);
             };
           };
           return Samples{{"mean", {make.normal({3, 4})}, with({0, 3, 1}, {})},
                          {"sum, one ignored",
                           {make.normal({3, 4})},
                           with({2, -1, 0}, {.ignore_index = -1, .reduction = Reduction::sum})},
                          {"none, smoothed",
                           {make.normal({3, 4})},
                           with({2, -100, 0}, {.label_smoothing = 0.2, .reduction = Reduction::none})},
                          {"smoothed, divisor",
                           {make.normal({2, 19})},
                           with({18, 0}, {.label_smoothing = 0.1, .divisor = 5})},
                          {"no unit", {make.normal({0, 3})}, with({}, {})}};
         },
     .errors =
         [] {
           return ErrorSamples{
               fails<ShapeError>("target", "cross_entropy: target is i64[1], expected one pass of [2]",
                                 [] {
                                   cross_entropy(zeros({2, 3}), labels({1}));
                                 }),
               fails<DTypeError>("dtype", "cross_entropy: target is f32[2], expected class indices",
                                 [] {
                                   cross_entropy(zeros({2, 3}), zeros({2}));
                                 }),
               fails<ValueError>("label", "cross_entropy: target is 3 at 1, expected a class in [0, 3)",
                                 [] {
                                   cross_entropy(zeros({2, 3}), labels({0, 3}));
                                 }),
               fails<ConfigError>("smoothing", "cross_entropy: label_smoothing is 1.5", [] {
                 cross_entropy(zeros({1, 3}), labels({0}), {.label_smoothing = 1.5});
               })};
         }}};

const RegisterOp nll_op{{.name = "nll_loss",
                         .samples =
                             [](SampleMaker& make) {
                               auto with = [](const std::vector<int64_t>& target, Reduction reduction) {
                                 return [=](const Tensors& in) {
                                   return nll_loss(in[0], labels(target).to(in[0].device()), reduction);
                                 };
                               };
                               return Samples{
                                   {"mean", {make.normal({3, 4})}, with({0, -100, 1}, Reduction::mean)},
                                   {"sum", {make.normal({2, 2})}, with({1, 0}, Reduction::sum)},
                                   {"none", {make.normal({2, 2})}, with({1, -100}, Reduction::none)}};
                             },
                         .errors =
                             [] {
                               return ErrorSamples{fails<ValueError>(
                                   "label", "nll_loss: target is -1 at 0, expected a class in [0, 3)", [] {
                                     nll_loss(zeros({1, 3}), labels({-1}));
                                   })};
                             }}};

// mse_loss, binary_cross_entropy_with_logits, kl_div: two tensors of one shape.
template <class F>
OldOpInfo pairwise(const char* name, F f, std::function<Tensor(SampleMaker&)> target) {
  auto with = [f](Reduction reduction) {
    return [=](const Tensors& in) { return f(in[0], in[1], reduction); };
  };
  return {.name = name,
          .samples =
              [=](SampleMaker& make) {
                return Samples{{"mean", {make.normal({3, 4}), target(make)}, with(Reduction::mean)},
                               {"sum", {make.normal({3, 4}), target(make)}, with(Reduction::sum)},
                               {"none", {make.normal({3, 4}), target(make)}, with(Reduction::none)}};
              },
          .errors =
              [=] {
                return ErrorSamples{
                    fails<ShapeError>("shapes", ": expected equal shapes, got f32[2] and f32[2,1]", [=] {
                      f(zeros({2}), zeros({2, 1}), Reduction::mean);
                    })};
              }};
}

const RegisterOp mse_op{pairwise(
    "mse_loss", [](const Tensor& a, const Tensor& b, Reduction r) { return mse_loss(a, b, r); },
    [](SampleMaker& make) {
      return make.normal({3, 4});
    })};
const RegisterOp bce_op{pairwise(
    "binary_cross_entropy_with_logits",
    [](const Tensor& a, const Tensor& b, Reduction r) { return binary_cross_entropy_with_logits(a, b, r); },
    [](SampleMaker& make) {
      return make.uniform({3, 4}, 0, 1);
    })};
const RegisterOp kl_op{pairwise(
    "kl_div", [](const Tensor& a, const Tensor& b, Reduction r) { return kl_div(a, b, r); },
    [](SampleMaker& make) {
      return make.uniform({3, 4}, 0.1, 1);
    })};
const RegisterOp kl_log_op{pairwise(
    "kl_div_log_target", [](const Tensor& a, const Tensor& b, Reduction r) { return kl_div(a, b, r, true); },
    [](SampleMaker& make) {
      return make.normal({3, 4});
    })};

}  // namespace
}  // namespace tandem
