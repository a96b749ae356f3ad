#include <utility>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "autograd/registry.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/norms/channel_norm.h"
#include "ops/norms/norms.h"
#include "ops/pointwise.h"
#include "ops/rank_sum.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

struct BatchNorm final : detail::ChannelNorm {
  Tensor statistics;  // of the forward, until its caller takes them
  BatchNorm(double eps, bool relu) : ChannelNorm(0, eps, relu) {}
  const char* name() const override { return "batch_norm"; }
  Tensor forward(const Tensors& in) override {
    Result result = normalise(in);
    statistics = result.statistics;
    return result.y;
  }
  Tensors vjp(const Tensor& g) override {
    return ChannelNorm::vjp(relu && grad_enabled() ? g * positive().to(g.dtype()) : g);
  }
  Tensor positive() {  // where y was
    const NoGradGuard guard;
    return batch_norm_training(saved(0), saved(2), saved(3), eps).y > 0;
  }
};

// Applied to x [N, C, positions...] of `values` values per channel.
NormalisedBatch normalise_batch(const Tensors& in, double eps, bool relu, int64_t values) {
  const auto op = std::make_shared<BatchNorm>(eps, relu);
  const Tensor y = record(op, in), statistics = std::exchange(op->statistics, {});
  const int64_t channels = in[0].shape()[1];
  const int m = y.passes();
  const auto of_passes = [&](int64_t row) {
    return make_view(statistics, {channels}, {1}, row * channels * m, m, m > 1 ? channels : 0);
  };
  const double unbiased = static_cast<double>(values) / static_cast<double>(values - 1);
  return {y, {of_passes(0).clone(), affine(of_passes(1), unbiased, 0)}};
}

// [C] beside x [N, C, ...].
Tensor along_channels(const Tensor& v, const Tensor& x) {
  Shape shape = x.shape();
  for (int d = 0; d < x.dim(); ++d) shape[d] = d == 1 ? x.shape()[1] : 1;
  return reshape(v, shape);
}

// One factor and one summand per channel.
Tensor by_running(const Tensor& x, const BatchStatistics& running, const Tensor& weight, const Tensor& bias,
                  double eps) {
  Tensor scale = rsqrt(running.var + eps);
  if (weight.defined()) scale = scale * weight;
  Tensor shift = -(running.mean * scale);
  if (bias.defined()) shift = shift + bias;
  return (x * along_channels(scale, x) + along_channels(shift, x)).to(x.dtype());
}

// By the statistics of all ranks' samples, in recorded ops: the mean, then the squares around it.
NormalisedBatch normalise_over_ranks(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                                     double values, const RankGroup& group) {
  std::vector<int64_t> dims{0};
  for (int d = 2; d < x.dim(); ++d) dims.push_back(d);
  const Tensor wide = x.dtype() == DType::bf16 ? x.to(DType::f32) : x;
  const auto total = [&](const Tensor& each) { return sum_over_ranks(sum(each, dims), group); };
  const Tensor mean = total(wide) / values, centred = wide - along_channels(mean, wide);
  const Tensor var = total(centred * centred) / values;
  Tensor y = centred * along_channels(rsqrt(var + eps), wide);
  if (weight.defined()) y = y * along_channels(weight, y);
  if (bias.defined()) y = y + along_channels(bias, y);
  return {y.to(x.dtype()), {mean.detach(), var.detach() * (values / (values - 1))}};
}

void check_inputs(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check<DTypeError>(is_floating(x.dtype()), "batch_norm: expected a floating dtype, got {}", describe(x));
  check<ShapeError>(x.dim() >= 2, "batch_norm: expected [N, C] or [N, C, ...], got {}", describe(x));
  detail::check_affine("batch_norm", "weight", weight, {x.shape()[1]}, x);
  detail::check_affine("batch_norm", "bias", bias, {x.shape()[1]}, x);
}

}  // namespace

Tensor batch_norm(const Tensor& x, const BatchStatistics& running, const Tensor& weight, const Tensor& bias,
                  bool training, double eps, bool relu) {
  if (training) return batch_norm_training(x, weight, bias, eps, relu).y;
  check_inputs(x, weight, bias);
  check<ValueError>(running.mean.defined() && running.var.defined(),
                    "batch_norm: evaluation needs the running mean and variance");
  detail::check_affine("batch_norm", "running mean", running.mean, {x.shape()[1]}, x);
  detail::check_affine("batch_norm", "running var", running.var, {x.shape()[1]}, x);
  const Tensor y = by_running(x, running, weight, bias, eps);
  return relu ? tandem::relu(y) : y;
}

NormalisedBatch batch_norm_training(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                                    bool relu) {
  const PassContext* context = PassContext::current();
  const RankGroup group = context ? context->options().ranks : RankGroup{};
  if (relu && (x.device() != kCpu || group.count > 1)) {  // what has no activation
    NormalisedBatch result = batch_norm_training(x, weight, bias, eps);
    result.y = tandem::relu(result.y);
    return result;
  }
  check_inputs(x, weight, bias);
  int64_t values = x.shape()[0];
  for (int d = 2; d < x.dim(); ++d) values *= x.shape()[d];
  double of_all = static_cast<double>(values);
  if (group.count > 1) {
    group.ranks->sum({&of_all, 1}, group.count);
    return normalise_over_ranks(x, weight, bias, eps, of_all, group);
  }
  check<ValueError>(values > 1, "batch_norm: expected more than 1 value per channel in training, got {}",
                    describe(x));
  if (x.dim() > 2) return normalise_batch({x, weight, bias}, eps, relu, values);
  // The kernel wants a channel's values dense: the batch takes the place of the positions.
  const int64_t channels = x.shape()[1];
  const Tensor rows = reshape(transpose(x, 0, 1), {1, channels, values});
  NormalisedBatch result = normalise_batch({rows, weight, bias}, eps, relu, values);
  result.y = transpose(reshape(result.y, {channels, values}), 0, 1);
  return result;
}

void update_running(const BatchStatistics& running, const BatchStatistics& batch, double momentum) {
  NoGradGuard guard;
  auto update = [momentum](const Tensor& into, const Tensor& from) {
    check<ShapeError>(into.shape() == from.shape(), "update_running: {} from {}", describe(into),
                      describe(from));
    into.mul_(1 - momentum);
    for (int i = 0; i < from.passes(); ++i) into.add_(from.pass(i), momentum / from.passes());
  };
  update(running.mean, batch.mean);
  update(running.var, batch.var);
}

namespace {

Function training(double eps = 1e-5, bool relu = false) {
  return [=](const Tensors& in) { return batch_norm(in[0], {}, in[1], in[2], true, eps, relu); };
}
Function evaluation() {
  return [](const Tensors& in) { return batch_norm(in[0], {in[3], in[4]}, in[1], in[2], false); };
}

const RegisterOp batch_norm_op("batch_norm", [](OpCases& c) {
  c.sample("vectors", {c.normal({5, 3}), c.normal({3}), c.normal({3})}, training());
  c.sample("sequences", {c.normal({3, 2, 4}), c.normal({2}), c.normal({2})}, training());
  c.sample("images, eps 0.1", {c.normal({2, 3, 2, 2}), c.normal({3}), c.normal({3})}, training(0.1));
  c.sample("one sample", {c.normal({1, 2, 4}), c.normal({2}), c.normal({2})}, training());
  c.sample("x alone", {c.normal({4, 2}), {}, {}}, training());
  c.sample("weight alone", {c.normal({2, 2, 3}), c.normal({2}), {}}, training());
  c.sample("relu", {c.distinct({3, 2, 2, 2}), c.uniform({2}, 1, 2), c.uniform({2}, -0.2, 0.2)},
           training(1e-5, true));
  c.sample("relu of vectors", {c.distinct({5, 2}), {}, {}}, training(1e-5, true));
  c.sample("evaluation",
           {c.normal({2, 3, 2}), c.normal({3}), c.normal({3}), c.normal({3}), c.uniform({3}, 0.5, 2)},
           evaluation());
  c.sample("evaluation, x alone", {c.normal({2, 3}), {}, {}, c.normal({3}), c.uniform({3}, 0.5, 2)},
           evaluation());

  const Tensor x = zeros({2, 3});
  c.fails<ValueError>("one value",
                      "batch_norm: expected more than 1 value per channel in training, got f32[1,3]",
                      {zeros({1, 3}), {}, {}}, training());
  c.fails<ValueError>("no running", "batch_norm: evaluation needs the running mean and variance",
                      {x, {}, {}, {}, {}}, evaluation());
  c.fails<ShapeError>("running shape", "batch_norm: running var is f32[2], expected shape [3]",
                      {x, {}, {}, zeros({3}), zeros({2})}, evaluation());
  c.fails<ShapeError>("vector", "batch_norm: expected [N, C] or [N, C, ...], got f32[3]",
                      {zeros({3}), {}, {}}, training());
  c.fails<ShapeError>("weight", "batch_norm: weight is f32[2], expected shape [3]", {x, zeros({2}), {}},
                      training());
  c.fails<DTypeError>("i64", "batch_norm: expected a floating dtype", {x.to(DType::i64), {}, {}}, training());
  c.fails<ShapeError>("update", "update_running: f32[3] from f32[2]", [] {
    update_running({zeros({3}), zeros({3})}, {zeros({2}), zeros({2})});
  });
});

}  // namespace
}  // namespace tandem
