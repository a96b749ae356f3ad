#include "ops/norms/channel_norm.h"

#include "autograd/kernel.h"

namespace tandem::detail {

ChannelGroups ChannelNorm::shape_of(const Shape& x) const {
  int64_t positions = 1;
  for (int d = 2; d < x.size(); ++d) positions *= x[d];
  return {passes(), x[0], x[1], positions, groups};
}

Tensor ChannelNorm::forward(const Tensors& in) {
  const Tensor y = output(in[0].shape(), in[0]);
  const ChannelGroups shape = shape_of(y.shape());
  const int64_t s = shape.positions;
  dispatch_floating(name(), y.dtype(), [&]<class T>() {
    using A = accumulate_t<T>;
    const Tensor x = dense_passes(in[0], passes());
    const Tensor w = affine_values(in[1], {shape.channels}, dtype_of<A>, passes(), 1, y.device());
    const Tensor b = affine_values(in[2], {shape.channels}, dtype_of<A>, passes(), 0, y.device());
    const Tensor statistics = empty({2, shape.count()}, {dtype_of<A>, y.device()});
    save(in[0]), save(statistics);
    A* means = statistics.device_data<A>();
    if (run_on_device(
            y, ChannelNormArgs<T>{shape, eps, x.device_data<T>(), w.device_data<A>(), b.device_data<A>(),
                                  y.device_data<T>(), means, means + shape.count()}))
      return took(statistics);
    const T* xs = x.data<T>();
    T* ys = y.data<T>();
    const A *ws = w.data<A>(), *bs = b.data<A>();
    A *mean = statistics.data<A>(), *var = mean + shape.count();
    channel_statistics(shape, xs, mean, var);
    for_each_row(shape.segments(), s, [=, e = static_cast<A>(eps)](int64_t i) {
      const int64_t q = shape.group_of(i), c = shape.weight_of(i);
      const A scale = ws[c] / math::sqrt(var[q] + e), m = mean[q], shift = bs[c];
      const T* xr = xs + i * s;
      T* out = ys + i * s;
#pragma omp simd
      for (int64_t k = 0; k < s; ++k) out[k] = (static_cast<A>(xr[k]) - m) * scale + shift;
    });
    took(statistics);
  });
  weighted = in[1].defined();
  if (weighted) save(in[1]);
  return y;
}

Tensors ChannelNorm::vjp(const Tensor& g) {
  if (grad_enabled()) return composed(g);
  Tensors result;
  dispatch_floating(name(), g.dtype(), [&]<class T>() { result = fused<T>(g); });
  return result;
}

// Seen as [N, groups, channels of a group, positions].
Tensors ChannelNorm::composed(const Tensor& g) {
  const Tensor x = saved(0);
  const ChannelGroups shape = shape_of(x.shape());
  const int64_t n = shape.samples, parts = groups ? groups : shape.channels, each = shape.channels / parts;
  const Shape view{n, parts, each, shape.positions};
  const Tensor w = weighted ? reshape(saved(2), {parts, each, 1}) : Tensor();
  const Tensors all =
      composed_norm_vjp(reshape(g, view), reshape(x, view), w, groups ? Shape{2, 3} : Shape{0, 3}, eps, true);
  auto per_channel = [&](const Tensor& t) { return reshape(t.sum({0, 3}), {shape.channels}); };
  return {reshape(all[0], x.shape()), per_channel(all[1]), per_channel(all[2])};
}

template <class T>
Tensors ChannelNorm::fused_on_device(const Tensor& g, const Tensor& x, const Tensor& w,
                                     const Tensor& statistics) {
  using A = accumulate_t<T>;
  const Device device = g.device();
  const ChannelGroups shape = shape_of(saved(0).shape());
  const bool weights = needs(1) || needs(2);
  const Tensor dx = needs(0) ? empty(saved(0).shape(), {dtype_of<T>, device}, passes()) : Tensor();
  const Tensor dw = weights ? empty({shape.channels}, {dtype_of<A>, device}, passes()) : Tensor();
  const Tensor db = weights ? empty({shape.channels}, {dtype_of<A>, device}, passes()) : Tensor();
  const A* mean = statistics.device_data<A>();
  run_on_device(x, ChannelNormGradArgs<T>{
                       shape, eps, x.device_data<T>(), g.device_data<T>(), w.device_data<A>(), mean,
                       mean + shape.count(), needs(0) ? dx.device_data<T>() : nullptr,
                       weights ? dw.device_data<A>() : nullptr, weights ? db.device_data<A>() : nullptr});
  return {dx, dw, db};
}

// Two sums per segment give everything: those of g and of g xhat. They add up, weighted, to what dx needs
// per group and, as they are, to the gradients of weight and bias per channel.
template <class T>
Tensors ChannelNorm::fused(const Tensor& cotangent) {
  using A = accumulate_t<T>;
  const ChannelGroups shape = shape_of(cotangent.shape());
  const int64_t s = shape.positions;
  const Tensor x = dense_passes(saved(0), passes()), g = dense_passes(cotangent, passes());
  const Tensor statistics = saved(1);
  const Tensor w = affine_values(weighted ? saved(2) : Tensor(), {shape.channels}, dtype_of<A>, passes(), 1,
                                 cotangent.device());
  if (cotangent.device() != kCpu) return fused_on_device<T>(g, x, w, statistics);
  const T *xs = x.data<T>(), *gs = g.data<T>();
  const A *ws = w.data<A>(), *mean = statistics.data<A>(), *var = mean + shape.count();
  struct Sums {
    A g, g_xhat;
  };
  std::vector<Sums> sums(shape.segments());
  for_each_row(shape.segments(), s, [&, e = static_cast<A>(eps)](int64_t i) {
    const int64_t q = shape.group_of(i);
    const A m = mean[q], rstd = 1 / math::sqrt(var[q] + e);
    const A dot = reduce_rows(
        s, A(0), plus, [m](A gk, A xk) { return gk * (xk - m); }, gs + i * s, xs + i * s);
    sums[i] = {row_sum(gs + i * s, s), dot * rstd};
  });
  Tensor dx, dw, db;
  if (needs(0)) {
    std::vector<Sums> means(shape.count());  // of g w and of g w xhat
    for_each_row(shape.count(), shape.members(), [&](int64_t q) {
      Sums total = {};
      for (int64_t k = 0; k < shape.members(); ++k) {
        const int64_t i = shape.first(q) + k * shape.step();
        const A weight = ws[shape.weight_of(i)];
        total.g += weight * sums[i].g, total.g_xhat += weight * sums[i].g_xhat;
      }
      const A n = static_cast<A>(shape.members() * s);
      means[q] = {total.g / n, total.g_xhat / n};
    });
    dx = empty(cotangent.shape(), {dtype_of<T>}, passes());
    T* dxs = dx.data<T>();
    for_each_row(shape.segments(), s, [&, e = static_cast<A>(eps)](int64_t i) {
      const int64_t q = shape.group_of(i);
      const A m = mean[q], rstd = 1 / math::sqrt(var[q] + e), weight = ws[shape.weight_of(i)];
      const A shift = means[q].g, slope = means[q].g_xhat * rstd;
      const T *gr = gs + i * s, *xr = xs + i * s;
      T* out = dxs + i * s;
#pragma omp simd
      for (int64_t k = 0; k < s; ++k) {
        out[k] = rstd * (static_cast<A>(gr[k]) * weight - shift - (static_cast<A>(xr[k]) - m) * slope);
      }
    });
  }
  if (needs(1) || needs(2)) {
    dw = empty({shape.channels}, {dtype_of<A>}, passes()).zero_(), db = zeros_like(dw);
    A *dws = dw.data<A>(), *dbs = db.data<A>();
    for (int64_t i = 0; i < shape.segments(); ++i) {
      const int64_t c = shape.weight_of(i);
      dws[c] += sums[i].g_xhat, dbs[c] += sums[i].g;
    }
  }
  return {dx, dw, db};
}

}  // namespace tandem::detail
