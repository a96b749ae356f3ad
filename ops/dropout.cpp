// y = x * mask / (1 - p), mask ~ Bernoulli(1 - p). The op is linear in x, so its vjp is the op itself with
// the same noise: no mask is stored, it is drawn again. This is where passes come from.
#include "ops/dropout.h"

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/dropout_kernel.h"
#include "ops/loops/loop.h"

namespace tandem {
namespace {

struct Dropout final : Op {
  Noise noise;
  explicit Dropout(const Noise& noise) : noise(noise) {}
  const char* name() const override { return "dropout"; }

  Tensor forward(const Tensors& in) override {
    check<ShapeError>(in[0].passes() == 1 || in[0].passes() == noise.passes(),
                      "dropout: {} in a context of {} passes", describe(in[0]), noise.passes());
    set_passes(noise.passes());
    const Tensor x = dense(in[0]), out = output(x.shape(), x);
    const int64_t numel = x.numel();
    const int64_t row = noise.per_sample(name(), numel, x.dim() ? x.shape()[0] : 1);
    if (numel == 0) return out;
    // Samples shorter than a tile are taken several at a time, long ones in parts.
    const int64_t samples = numel / row, part = std::min<int64_t>(row, detail::kGrain / 2);
    const int64_t parts = (row + part - 1) / part, tasks = samples * parts;
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      if (x.device() != kCpu) [[unlikely]] {
        return detail::for_passes<detail::DropoutPasses<T>>(
            noise, x.device_data<T>(), out.device_data<T>(), x.pass_stride(), out.pass_stride(), numel / row,
            row, [&](const auto& args) { run_on_device(x, args); });
      }
      const T* source = x.data<T>();
      T* target = out.data<T>();
      parallel_for(
          tasks, std::max<int64_t>(1, detail::kGrain / (part * passes())), [&](int64_t begin, int64_t end) {
            for (int64_t task = begin; task < end; ++task) {
              const int64_t sample = task / parts, at = task % parts * part, count = std::min(part, row - at);
              const int64_t offset = sample * row + at;
              for (int i = 0; i < passes(); ++i) {  // x is read once from memory, m copies are written
                dropout_row<T>(noise.key, noise.first_pass + i, noise.sample_offset + sample, at, count,
                               drop_threshold(noise.rates[i]), static_cast<C>(1 / (1 - noise.rates[i])),
                               source + i * x.pass_stride() + offset,
                               target + i * out.pass_stride() + offset);
              }
            }
          });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {dropout(g, noise)}; }
};

}  // namespace

Tensor dropout(const Tensor& x, const Noise& noise) {
  return noise.active() ? apply<Dropout>({x}, noise) : x;
}
Tensor dropout(const Tensor& x, double p) {
  return dropout(x, PassContext::require("dropout").noise(Purpose::dropout, p));
}

namespace {

void dropout_cases(OpCases& c) {
  const auto f = [](PassOptions options) {
    return [options](const Tensors& in) {
      const PassContext context(options);
      return dropout(in[0], 0.4);
    };
  };
  c.sample("one pass", {c.normal({3, 50})}, f({.seed = 5}));
  c.sample("makes 3 passes", {c.normal({3, 50})}, f({.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("inactive", {c.normal({3, 5})}, f({.seed = 5, .count = 2, .rates = {0, 0}}));
  c.fails<AutogradError>("no context", "dropout: noise outside of a PassContext",
                         [] { dropout(zeros({2}), 0.1); });
  c.fails<ConfigError>("rate 1", "dropout: expected a rate in [0, 1), got 1", [] {
    const PassContext context({});
    dropout(zeros({2}), 1.0);
  });
  c.fails<ShapeError>("batch", "dropout: 5 elements are not divisible among the 2 samples",
                      [=] { f({.batch = 2})({zeros({5})}); });
}
const RegisterOp dropout_op("dropout", dropout_cases, {.draws_noise = true});

}  // namespace
}  // namespace tandem
