// Dropout and drop_path: y = x keep / (1 - p), keep ~ Bernoulli(1 - p), where `Kind` says what one draw
// keeps. Linear in x, so the vjp is the op itself with the same noise: no mask is stored, it is drawn again.
// This is where passes come from. Of packed rows on a device the kernels see the padded tensor.
#pragma once

#include "autograd/op.h"
#include "ops/dropout_kernel.h"
#include "ops/loops/rows.h"
#include "ops/packing.h"

namespace tandem::detail {

// Kind has: name; Args<T>, the arguments of its CUDA kernel; run(noise, spans, rows), the same on the CPU.
template <class Kind> struct Dropping final : Op {
  Noise noise;
  explicit Dropping(const Noise& noise) : noise(noise) {}
  const char* name() const override { return Kind::name; }

  Tensor forward(const Tensors& in) override {
    check<ShapeError>(in[0].passes() == 1 || in[0].passes() == noise.passes(),
                      "{}: {} in a context of {} passes", name(), describe(in[0]), noise.passes());
    set_passes(noise.passes());
    const Tensor x = dense(in[0]), out = output(x.shape(), x);
    const Noise::Spans spans = noise.spans(name(), x.shape());
    if (x.numel() == 0) return out;
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      const DropRows<T> rows{x.device_data<T>(), out.device_data<T>(), x.pass_stride(),
                             out.pass_stride(),  spans.size(),         spans.longest()};
      if (x.device() == kCpu) return Kind::run(noise, spans, rows);
      for_passes<typename Kind::template Args<T>>(noise, rows,
                                                  [&](const auto& args) { run_on_device(x, args); });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<Dropping>({g}, noise)}; }
};

// x itself when no pass drops anything.
template <class Kind> Tensor drop(const Tensor& x, const Noise& noise) {
  if (!noise.active()) return x;
  if (!noise.packed.defined() || x.device() == kCpu) return apply<Dropping<Kind>>({x}, noise);
  Noise padded = noise;
  padded.packed = {};
  return pack_padded(apply<Dropping<Kind>>({pad_packed(x, noise.packed)}, padded), noise.packed);
}

}  // namespace tandem::detail
