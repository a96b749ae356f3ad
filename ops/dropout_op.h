// Dropout and drop_path: y = x keep / (1 - p), keep ~ Bernoulli(1 - p), where `Kind` says what one draw
// keeps. Linear in x, so the vjp is the op itself with the same noise: no mask is stored, it is drawn again.
// This is where passes come from. Of packed rows on a device the kernels see the padded tensor.
#pragma once

#include <type_traits>

#include "autograd/op.h"
#include "autograd/pass_context.h"
#include "ops/dropout_kernel.h"
#include "ops/loops/rows.h"
#include "ops/packing.h"

namespace tandem::detail {

// As dropout_row(), but from one dtype to another, and added to `onto` where it is not null.
template <class T, class O>
void drop_row(NoiseKey key, uint32_t pass, const NoiseSpan& span, double rate, const T* x, O* y,
              const O* onto) {
  using C = compute_t<T>;
  const uint32_t threshold = drop_threshold(rate);
  const C scale = static_cast<C>(kept_scale(rate));
  if constexpr (std::is_same_v<T, O>) {
    if (!onto)
      return dropout_row<T>(key, pass, span.sample, span.position, span.count, threshold, scale, x, y);
  }
  constexpr int64_t kTile = 512;  // stays in the first level cache
  alignas(64) C tile[kTile];
  for (int64_t begin = 0; begin < span.count; begin += kTile, x += kTile, y += kTile) {
    const int64_t n = std::min(kTile, span.count - begin);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) tile[i] = static_cast<C>(x[i]);
    dropout_row<C>(key, pass, span.sample, span.position + static_cast<uint64_t>(begin), n, threshold, scale,
                   tile, tile);
    if (onto) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = static_cast<C>(onto[i]) + tile[i];
      onto += kTile;
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = tile[i];
    }
  }
}

struct DropElements {  // one draw for each element
  static constexpr const char* name = "dropout";
  static constexpr bool converts = true;
  template <class T, class O> using Args = DropoutPasses<T, O>;

  template <class T, class O>
  static void run(const Noise& noise, const Noise::Spans& spans, const DropRows<T, O>& a) {
    const int passes = noise.passes();
    // Samples shorter than a tile are taken several at a time, long ones in parts.
    const int64_t part = std::min<int64_t>(spans.longest(), kGrain / 2);
    const int64_t parts = (spans.longest() + part - 1) / part, tasks = spans.size() * parts;
    for_each_row(tasks, part * passes, [&](int64_t task) {
      const NoiseSpan span = spans[task / parts];
      const int64_t at = task % parts * part, count = std::min(part, span.count - at);
      const int64_t offset = span.begin + at;
      for (int i = 0; count > 0 && i < passes; ++i) {  // x is read once from memory, m copies are written
        drop_row(noise.key, noise.first_pass + i, {0, count, span.sample, span.position + at}, noise.rates[i],
                 a.x + i * a.x_pass + offset, a.y + i * a.y_pass + offset,
                 a.onto ? a.onto + i * a.onto_pass + offset : nullptr);
      }
    });
  }
};

// out = x where kept, scaled, and 0 elsewhere; added to `onto`, dense and of out's dtype, where it is
// defined. Kind has: name; Args<T, O>, the arguments of its CUDA kernel; run(noise, spans, rows), the same on
// the CPU; converts, whether it goes between bf16 and f32.
template <class Kind>
void drop_into(const char* op, const Noise& noise, const Tensor& x, const Tensor& out, const Tensor& onto) {
  const Noise::Spans spans = noise.spans(op, x.shape());
  if (x.numel() == 0) return;
  const auto run = [&]<class T, class O>() {
    const DropRows<T, O> rows{
        x.device_data<T>(), out.device_data<O>(), onto.defined() ? onto.device_data<O>() : nullptr,
        x.pass_stride(),    out.pass_stride(),    onto.defined() ? onto.pass_stride() : 0,
        spans.size(),       spans.longest()};
    if (x.device() == kCpu) return Kind::run(noise, spans, rows);
    for_passes<typename Kind::template Args<T, O>>(noise, rows,
                                                   [&](const auto& args) { run_on_device(x, args); });
  };
  if constexpr (Kind::converts) {
    if (x.dtype() == DType::bf16 && out.dtype() == DType::f32) return run.template operator()<bf16, float>();
    if (x.dtype() == DType::f32 && out.dtype() == DType::bf16) return run.template operator()<float, bf16>();
  }
  dispatch_floating(op, x.dtype(), [&]<class T>() { run.template operator()<T, T>(); });
}

// Of x in the dtype `to`: its own, or bf16 of f32, or f32 of bf16.
template <class Kind> struct Dropping final : Op {
  Noise noise;
  DType to, from = to;
  Dropping(const Noise& noise, DType to) : noise(noise), to(to) {}
  const char* name() const override { return Kind::name; }

  Tensor forward(const Tensors& in) override {
    check<ShapeError>(in[0].passes() == 1 || in[0].passes() == noise.passes(),
                      "{}: {} in a context of {} passes", name(), describe(in[0]), noise.passes());
    set_passes(noise.passes());
    from = in[0].dtype();
    const Tensor out = output(in[0].shape(), to, in[0].device());
    drop_into<Kind>(name(), noise, dense(in[0]), out, {});
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<Dropping>({g}, noise, from)}; }
};

// x itself when no pass drops anything.
template <class Kind> Tensor drop(const Tensor& x, const Noise& noise) {
  if (!noise.active()) return x;
  if (!noise.packed.defined() || x.device() == kCpu) return apply<Dropping<Kind>>({x}, noise, x.dtype());
  Noise padded = noise;
  padded.packed = {};
  return pack_padded(apply<Dropping<Kind>>({pad_packed(x, noise.packed)}, padded, x.dtype()), noise.packed);
}

}  // namespace tandem::detail
