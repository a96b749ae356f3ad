// Dropout and drop_path: y = x keep / (1 - p), keep ~ Bernoulli(1 - p), where `Kind` says what one draw
// keeps. Linear in x, so the vjp is the op itself with the same noise: no mask is stored, it is drawn again.
// This is where passes come from.
#pragma once

#include "autograd/op.h"
#include "ops/dropout_kernel.h"
#include "ops/loops/rows.h"

namespace tandem::detail {

// Kind has: name; Args<T>, the arguments of its CUDA kernel; run(noise, rows), the same on the CPU.
template <class Kind> struct Dropping final : Op {
  Noise noise;
  explicit Dropping(const Noise& noise) : noise(noise) {}
  const char* name() const override { return Kind::name; }

  Tensor forward(const Tensors& in) override {
    check<ShapeError>(in[0].passes() == 1 || in[0].passes() == noise.passes(),
                      "{}: {} in a context of {} passes", name(), describe(in[0]), noise.passes());
    set_passes(noise.passes());
    const Tensor x = dense(in[0]), out = output(x.shape(), x);
    const int64_t numel = x.numel();
    const int64_t row = noise.per_sample(name(), numel, x.dim() ? x.shape()[0] : 1);
    if (numel == 0) return out;
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      const DropRows<T> rows{x.device_data<T>(), out.device_data<T>(), x.pass_stride(),
                             out.pass_stride(),  numel / row,          row};
      if (x.device() == kCpu) return Kind::run(noise, rows);
      for_passes<typename Kind::template Args<T>>(noise, rows,
                                                  [&](const auto& args) { run_on_device(x, args); });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<Dropping>({g}, noise)}; }
};

// x itself when no pass drops anything.
template <class Kind> Tensor drop(const Tensor& x, const Noise& noise) {
  return noise.active() ? apply<Dropping<Kind>>({x}, noise) : x;
}

}  // namespace tandem::detail
