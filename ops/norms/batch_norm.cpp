#include "autograd/grad_mode.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/norms/channel_norm.h"
#include "ops/norms/norms.h"
#include "ops/pointwise.h"

namespace tandem {
namespace {

struct BatchNorm final : detail::ChannelNorm {
  BatchStatistics* batch;
  int64_t values;  // per channel
  BatchNorm(double eps, int64_t values, BatchStatistics* batch)
      : ChannelNorm(0, eps), batch(batch), values(values) {}
  const char* name() const override { return "batch_norm"; }

  void took(const Tensor& statistics) override {
    if (!batch) return;
    const int64_t channels = statistics.numel() / (2 * passes());
    auto of_passes = [&](int64_t row) {
      return make_view(statistics, {channels}, {1}, row * channels * passes(), passes(),
                       passes() > 1 ? channels : 0);
    };
    batch->mean = of_passes(0).clone();
    batch->var = affine(of_passes(1), static_cast<double>(values) / static_cast<double>(values - 1), 0);
  }
};

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

}  // namespace

Tensor batch_norm(const Tensor& x, const BatchStatistics& running, const Tensor& weight, const Tensor& bias,
                  bool training, double eps, BatchStatistics* batch) {
  check<DTypeError>(is_floating(x.dtype()), "batch_norm: expected a floating dtype, got {}", describe(x));
  check<ShapeError>(x.dim() >= 2, "batch_norm: expected [N, C] or [N, C, ...], got {}", describe(x));
  const int64_t channels = x.shape()[1];
  detail::check_affine("batch_norm", "weight", weight, {channels}, x);
  detail::check_affine("batch_norm", "bias", bias, {channels}, x);
  if (!training) {
    check<ValueError>(running.mean.defined() && running.var.defined(),
                      "batch_norm: evaluation needs the running mean and variance");
    detail::check_affine("batch_norm", "running mean", running.mean, {channels}, x);
    detail::check_affine("batch_norm", "running var", running.var, {channels}, x);
    return by_running(x, running, weight, bias, eps);
  }
  int64_t values = x.shape()[0];
  for (int d = 2; d < x.dim(); ++d) values *= x.shape()[d];
  check<ValueError>(values > 1, "batch_norm: expected more than 1 value per channel in training, got {}",
                    describe(x));
  if (x.dim() > 2) return apply<BatchNorm>({x, weight, bias}, eps, values, batch);
  // The kernel wants a channel's values dense: the batch takes the place of the positions.
  const Tensor rows = reshape(transpose(x, 0, 1), {1, channels, values});
  const Tensor y = apply<BatchNorm>({rows, weight, bias}, eps, values, batch);
  return transpose(reshape(y, {channels, values}), 0, 1);
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

Function training(double eps = 1e-5) {
  return [=](const Tensors& in) { return batch_norm(in[0], {}, in[1], in[2], true, eps); };
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
  c.sample("evaluation",
           {c.normal({2, 3, 2}), c.normal({3}), c.normal({3}), c.normal({3}), c.uniform({3}, 0.5, 2)},
           evaluation());
  c.sample("evaluation, x alone", {c.normal({2, 3}), {}, {}, c.normal({3}), c.uniform({3}, 0.5, 2)},
           evaluation());

  const auto call = [](Tensor x, bool training, BatchStatistics running = {}, Tensor weight = {}) {
    return [=] { batch_norm(x, running, weight, {}, training); };
  };
  const Tensor x = zeros({2, 3});
  c.fails<ValueError>("one value",
                      "batch_norm: expected more than 1 value per channel in training, got f32[1,3]",
                      call(zeros({1, 3}), true));
  c.fails<ValueError>("no running", "batch_norm: evaluation needs the running mean and variance",
                      call(x, false));
  c.fails<ShapeError>("running shape", "batch_norm: running var is f32[2], expected shape [3]",
                      call(x, false, {zeros({3}), zeros({2})}));
  c.fails<ShapeError>("vector", "batch_norm: expected [N, C] or [N, C, ...], got f32[3]",
                      call(zeros({3}), true));
  c.fails<ShapeError>("weight", "batch_norm: weight is f32[2], expected shape [3]",
                      call(x, true, {}, zeros({2})));
  c.fails<DTypeError>("i64", "batch_norm: expected a floating dtype",
                      call(zeros({2, 3}, {DType::i64}), true));
  c.fails<ShapeError>("update", "update_running: f32[3] from f32[2]", [] {
    update_running({zeros({3}), zeros({3})}, {zeros({2}), zeros({2})});
  });
});

}  // namespace
}  // namespace tandem
