// y = x * keep[sample] / (1 - p), keep ~ Bernoulli(1 - p): dropout whose mask is one draw per sample, at
// position 0. Linear in x, so its vjp is the op itself with the same noise.
#include "ops/drop_path.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/dropout_kernel.h"
#include "ops/loops/loop.h"

namespace tandem {
namespace {

struct DropPath final : Op {
  Noise noise;
  explicit DropPath(const Noise& noise) : noise(noise) {}
  const char* name() const override { return "drop_path"; }

  Tensor forward(const Tensors& in) override {
    check<ShapeError>(in[0].passes() == 1 || in[0].passes() == noise.passes(),
                      "drop_path: {} in a context of {} passes", describe(in[0]), noise.passes());
    set_passes(noise.passes());
    const Tensor x = dense(in[0]), out = output(x.shape(), x);
    const int64_t numel = x.numel();
    const int64_t row = noise.per_sample(name(), numel, x.dim() ? x.shape()[0] : 1);
    if (numel == 0) return out;
    const int64_t samples = numel / row;
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      if (x.device() != kCpu) [[unlikely]] {
        return detail::for_passes<detail::DropPathPasses<T>>(
            noise, x.device_data<T>(), out.device_data<T>(), x.pass_stride(), out.pass_stride(), numel / row,
            row, [&](const auto& args) { run_on_device(x, args); });
      }
      const T* source = x.data<T>();
      T* target = out.data<T>();
      parallel_for(samples * passes(), std::max<int64_t>(1, detail::kGrain / row),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t task = begin; task < end; ++task) {
                       const auto pass = static_cast<int>(task / samples);
                       const int64_t sample = task % samples;
                       const double rate = noise.rates[pass];
                       const bool keep =
                           rate == 0 || single_draw(noise.key, noise.first_pass + pass,
                                                    noise.sample_offset + sample, 0) >= drop_threshold(rate);
                       const T* from = source + pass * x.pass_stride() + sample * row;
                       T* to = target + pass * out.pass_stride() + sample * row;
                       if (!keep) {
                         std::fill_n(to, row, T{});  // whatever x was, also NaN
                         continue;
                       }
                       const C scale = static_cast<C>(1 / (1 - rate));
#pragma omp simd
                       for (int64_t i = 0; i < row; ++i) to[i] = static_cast<C>(from[i]) * scale;
                     }
                   });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {drop_path(g, noise)}; }
};

}  // namespace

Tensor drop_path(const Tensor& x, const Noise& noise) {
  return noise.active() ? apply<DropPath>({x}, noise) : x;
}
Tensor drop_path(const Tensor& x, double p) {
  return drop_path(x, PassContext::require("drop_path").noise(Purpose::drop_path, p));
}

namespace {

void drop_path_cases(OpCases& c) {
  const auto f = [](PassOptions options) {
    return [options](const Tensors& in) {
      const PassContext context(options);
      return drop_path(in[0], 0.4);
    };
  };
  c.sample("one pass", {c.normal({12, 3})}, f({.seed = 5}));
  c.sample("makes 3 passes", {c.normal({8, 2, 2})}, f({.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("two rows of a sample", {c.normal({12, 3})}, f({.seed = 5, .batch = 6}));
  c.sample("no samples", {c.normal({0, 3})}, f({.seed = 5}));
  c.sample("inactive", {c.normal({3, 5})}, f({.seed = 5, .count = 2, .rates = {0, 0}}));
  c.fails<AutogradError>("no context", "drop_path: noise outside of a PassContext",
                         [] { drop_path(zeros({2}), 0.1); });
  c.fails<ShapeError>("batch", "drop_path: 5 elements are not divisible among the 2 samples",
                      [=] { f({.batch = 2})({zeros({5})}); });
}
const RegisterOp drop_path_op("drop_path", drop_path_cases, {.draws_noise = true});

}  // namespace
}  // namespace tandem
