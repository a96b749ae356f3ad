// cross_entropy is R-Drop's of one pass, with alpha = 0, and its kernel; with P = softmax(z), the gradient is
//   dz = (P - q) / divisor,  q = (1 - s) onehot(target) + s / classes
// kept by the forward, and written again in Tensor ops where a second derivative is asked for. The others are
// composed.
#include "ops/losses.h"

#include <limits>

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/step_scalars.h"
#include "autograd/tensor_impl.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/arithmetic_kernel.h"
#include "ops/comparison.h"
#include "ops/indexing.h"
#include "ops/loops/loop.h"
#include "ops/pointwise.h"
#include "ops/rdrop/loss.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/views.h"

namespace tandem {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor reduce(const Tensor& x, Reduction reduction) {
  return reduction == Reduction::none ? x : reduction == Reduction::sum ? sum(x) : mean(x);
}

// 16-bit numbers as f32, in which a loss is computed; its result is rounded once.
Tensor widened(const Tensor& x) { return x.dtype() == DType::bf16 ? x.to(DType::f32) : x; }

void check_equal(const char* op, const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.shape() == b.shape(), "{}: expected equal shapes, got {} and {}", op, describe(a),
                    describe(b));
}

// Of x [..., classes]. Labels are checked here on the CPU, by the kernel on a device.
rdrop::Inputs labelled(const char* op, const Tensor& x, const Tensor& target, const RDropOptions& options) {
  rdrop::Inputs inputs = rdrop::check_inputs(op, x, target, {}, options);
  rdrop::check_labels(inputs, x.size(-1));
  inputs.from_step = false;
  return inputs;
}

// bool [...]
Tensor ignored_units(const rdrop::Inputs& inputs) {
  return eq(inputs.target, static_cast<double>(inputs.options.ignore_index));
}

struct CrossEntropy final : rdrop::LossOp {
  static constexpr bool one_pass_at_a_time = true;
  using LossOp::LossOp;
  bool first_order_only() const override { return false; }

  Tensor forward(const Tensors& in) override {
    const Tensor loss = cross_entropy(in[0]);
    save(in[0]);
    return loss;
  }

  Tensors vjp(const Tensor& g) override {
    if (!grad_enabled()) return LossOp::vjp(g);
    const RDropOptions& options = inputs.options;
    const Tensor ignored = ignored_units(inputs), hidden = ignored.unsqueeze(-1);
    const Tensor logits = masked_fill(widened(saved(1)), hidden, 0);  // whatever they are, also NaN
    const Tensor real = gt(logits, -kInfinity).to(logits.dtype());
    const Tensor labels = masked_fill(inputs.target, ignored, 0);
    const Tensor hot = one_hot(labels, logits.size(-1), logits.dtype());
    const Tensor q =
        hot * (1 - options.label_smoothing) + real * options.label_smoothing / sum(real, {-1}, true);
    return {masked_fill(softmax(logits, -1) - q, hidden, 0) * (g / divisor().to(g.dtype()))};
  }
};

// g ((1 - t) sigmoid(x) - t sigmoid(-x)) of inputs g, x and t, which is exact at both ends.
struct BinaryCrossEntropyGrad final : Op {
  const char* name() const override { return "binary_cross_entropy_with_logits"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(broadcast(name(), in[0].shape(), in[1].shape()), in[1]);
    dispatch_floating(name(), in[1].dtype(), [&]<class T>() {
      detail::map<T, T, T, T>(out, detail::BinaryCrossEntropyGrad<compute_t<T>>{}, in[0], in[1], in[2]);
    });
    for (const Tensor& x : in) save(x);
    return out;
  }
  Tensors vjp(const Tensor& c) override {
    const Tensor g = saved(0), x = saved(1), t = saved(2);
    return {needs(0) ? apply<BinaryCrossEntropyGrad>({c, x, t}) : Tensor(),
            needs(1) ? c * g * sigmoid(x) * sigmoid(-x) : Tensor(), needs(2) ? -(c * g) : Tensor()};
  }
};

struct BinaryCrossEntropy final : Op {
  const char* name() const override { return "binary_cross_entropy_with_logits"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    dispatch_floating(name(), in[0].dtype(), [&]<class T>() {
      using Value = detail::BinaryValue<detail::BinaryCrossEntropyValue, compute_t<T>>;
      detail::map<T, T, T>(out, Value{}, in[0], in[1]);
    });
    save(in[0]), save(in[1]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor x = saved(0), t = saved(1);
    return {needs(0) ? apply<BinaryCrossEntropyGrad>({g, x, t}) : Tensor(), needs(1) ? -(g * x) : Tensor()};
  }
};

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, Reduction reduction,
                int64_t ignore_index) {
  const rdrop::Inputs inputs =
      labelled("nll_loss", log_probabilities, target, {.ignore_index = ignore_index});
  Tensor device_sums;
  if (target.device() != kCpu) {
    device_sums =
        rdrop::count_on_device(inputs, log_probabilities, target.numel(), log_probabilities.size(-1));
    if (!recorded_scalars()) read_loss_sums(device_sums);  // throws
  }
  const Tensor ignored = ignored_units(inputs);
  const Tensor labels = masked_fill(inputs.target, ignored, 0);
  const Tensor picked = gather(log_probabilities, -1, labels.unsqueeze(-1)).squeeze(-1);
  const Tensor losses = masked_fill(-widened(picked), ignored, 0);
  const DType dtype = log_probabilities.dtype();
  if (reduction != Reduction::mean) return reduce(losses, reduction).to(dtype);
  const Tensor total = sum(losses);
  const Tensor mean = device_sums.defined() ? total / rdrop::divisor_of(device_sums).to(total.dtype())
                                            : total / inputs.divisor();
  return mean.to(dtype);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  rdrop::Inputs inputs = labelled("cross_entropy", logits, target,
                                  {.alpha = 0,
                                   .label_smoothing = options.label_smoothing,
                                   .ignore_index = options.ignore_index,
                                   .divisor = options.divisor});
  if (options.reduction == Reduction::sum) inputs.options.divisor = 1;
  if (options.reduction != Reduction::none) return apply<CrossEntropy>({logits}, inputs);
  const Tensor hidden = ignored_units(inputs).unsqueeze(-1);
  const Tensor log_p = log_softmax(masked_fill(widened(logits), hidden, 0), -1);
  const Tensor nll = nll_loss(log_p, target, Reduction::none, options.ignore_index);
  if (options.label_smoothing == 0) return nll.to(logits.dtype());
  const Tensor excluded = logical_not(gt(log_p, -kInfinity));
  const Tensor classes = sum(logical_not(excluded).to(log_p.dtype()), {-1});
  const Tensor smooth = -sum(masked_fill(log_p, excluded, 0), {-1}) / classes;
  return (nll * (1 - options.label_smoothing) +
          masked_fill(smooth, ignored_units(inputs), 0) * options.label_smoothing)
      .to(logits.dtype());
}

Tensor mse_loss(const Tensor& a, const Tensor& b, Reduction reduction) {
  check_equal("mse_loss", a, b);
  return reduce(square(widened(a) - widened(b)), reduction).to(promote(a.dtype(), b.dtype()));
}

Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target, Reduction reduction) {
  check_equal("binary_cross_entropy_with_logits", logits, target);
  const DType dtype = promote(logits.dtype(), target.dtype()),
              wide = dtype == DType::bf16 ? DType::f32 : dtype;
  return reduce(apply<BinaryCrossEntropy>({logits.to(wide), target.to(wide)}), reduction).to(dtype);
}

// Where t = 0, all that goes into the term is finite, so that its derivatives are, too.
Tensor kl_div(const Tensor& log_probabilities, const Tensor& target, Reduction reduction, bool log_target) {
  check_equal("kl_div", log_probabilities, target);
  const Tensor none = eq(log_target ? exp(widened(target.detach())) : target.detach(), 0);
  const Tensor log_p = masked_fill(widened(log_probabilities), none, 0);
  const Tensor t = masked_fill(widened(target), none, log_target ? 0 : 1);
  const Tensor terms = log_target ? exp(t) * (t - log_p) : t * (log(t) - log_p);
  return reduce(masked_fill(terms, none, 0), reduction)
      .to(promote(log_probabilities.dtype(), target.dtype()));
}

namespace {

Tensor labels(const std::vector<int64_t>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}

void cross_entropy_cases(OpCases& c) {
  const auto with = bound(cross_entropy);
  c.sample("mean", {c.normal({3, 4})}, with(labels({0, 3, 1}), {}));
  c.sample("sum, one ignored", {c.normal({3, 4})},
           with(labels({2, -1, 0}), {.ignore_index = -1, .reduction = Reduction::sum}));
  c.sample("none, smoothed", {c.normal({3, 4})},
           with(labels({2, -100, 0}), {.label_smoothing = 0.2, .reduction = Reduction::none}));
  c.sample("smoothed, divisor", {c.normal({2, 19})},
           with(labels({18, 0}), {.label_smoothing = 0.1, .divisor = 5}));
  c.sample("no unit", {c.normal({0, 3})}, with(labels({}), {}));

  const Tensor x = zeros({2, 3});
  c.fails<ShapeError>("target", "cross_entropy: target is i64[1], expected one pass of [2]", {x},
                      with(labels({1}), {}));
  c.fails<ShapeError>("classes in front",
                      "target is i64[2,4], expected one pass of [2,3]: classes are the last dimension of "
                      "f32[2,3,4]; where they are dimension 1, write logits.transpose(1, 2)",
                      {zeros({2, 3, 4})}, with(zeros({2, 4}, {DType::i64}), {}));
  c.fails<ShapeError>("classes in front of maps",
                      "where they are dimension 1, write logits.permute({0, 2, 3, 1})", {zeros({2, 3, 4, 5})},
                      with(zeros({2, 4, 5}, {DType::i64}), {}));
  c.fails<DTypeError>("dtype", "cross_entropy: target is f32[2], expected class indices", {x},
                      with(zeros({2}), {}));
  c.fails<ValueError>("label", "cross_entropy: target is 3 at 1, expected a class in [0, 3)", {x},
                      with(labels({0, 3}), {}));
  c.fails<ConfigError>("smoothing", "cross_entropy: label_smoothing is 1.5", {x},
                       with(labels({0, 0}), {.label_smoothing = 1.5}));
}
const RegisterOp cross_entropy_op("cross_entropy", cross_entropy_cases);

const RegisterOp nll_op("nll_loss", [](OpCases& c) {
  const auto with = bound(nll_loss);
  c.sample("mean", {c.normal({3, 4})}, with(labels({0, -100, 1}), Reduction::mean, -100));
  c.sample("sum", {c.normal({2, 2})}, with(labels({1, 0}), Reduction::sum, -100));
  c.sample("none", {c.normal({2, 2})}, with(labels({1, -100}), Reduction::none, -100));
  c.fails<ValueError>("label", "nll_loss: target is -1 at 0, expected a class in [0, 3)", {zeros({1, 3})},
                      with(labels({-1}), Reduction::mean, -100));
});

using Make = Tensor (*)(SampleMaker&);
Tensor any_number(SampleMaker& make) { return make.normal({3, 4}); }
Tensor fraction(SampleMaker& make) { return make.uniform({3, 4}, 0, 1); }
Tensor not_small(SampleMaker& make) { return make.uniform({3, 4}, 0.1, 1); }

// A loss of two tensors of one shape.
RegisterOp register_pairwise(const char* name, Tensor (*f)(const Tensor&, const Tensor&, Reduction),
                             Make target) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto with = [f](Reduction reduction) {
      return [=](const Tensors& in) { return f(in[0], in[1], reduction); };
    };
    c.sample("mean", {c.normal({3, 4}), target(c)}, with(Reduction::mean));
    c.sample("sum", {c.normal({3, 4}), target(c)}, with(Reduction::sum));
    c.sample("none", {c.normal({3, 4}), target(c)}, with(Reduction::none));
    c.fails<ShapeError>("shapes", ": expected equal shapes, got f32[2] and f32[2,1]",
                        {zeros({2}), zeros({2, 1})}, with(Reduction::mean));
  });
}

const RegisterOp mse_op = register_pairwise("mse_loss", mse_loss, any_number);
const RegisterOp bce_op =
    register_pairwise("binary_cross_entropy_with_logits", binary_cross_entropy_with_logits, fraction);
template <bool log_target> Tensor kl(const Tensor& a, const Tensor& b, Reduction reduction) {
  return kl_div(a, b, reduction, log_target);
}
const RegisterOp kl_op = register_pairwise("kl_div", kl<false>, not_small);
const RegisterOp kl_log_op = register_pairwise("kl_div_log_target", kl<true>, any_number);

}  // namespace
}  // namespace tandem
