#include "ops/norms/channel_norm.h"

#include "autograd/kernel.h"
#include "ops/activations_kernel.h"

namespace tandem::detail {
namespace {

// The result for a value of a segment, before the activation.
template <class A> struct Normalised {
  A mean, scale, shift;
  A operator()(A x) const { return (x - mean) * scale + shift; }
};
template <class A>
Normalised<A> normalised(const ChannelGroups& shape, int64_t segment, const A* mean, const A* var, A eps,
                         const A* weight, const A* bias) {
  const int64_t q = shape.group_of(segment), c = shape.weight_of(segment);
  return {mean[q], weight[c] / math::sqrt(var[q] + eps), bias[c]};
}

template <bool relu, class T> void normalise_on_cpu(const ChannelNormArgs<T>& a) {
  using A = accumulate_t<T>;
  channel_statistics(a.shape, a.x, a.mean, a.var);
  const int64_t s = a.shape.positions;
  for_each_row(a.shape.segments(), s, [&a, s, e = static_cast<A>(a.eps)](int64_t i) {
    const auto f = normalised<A>(a.shape, i, a.mean, a.var, e, a.weight, a.bias);
    const T* x = a.x + i * s;
    T* y = a.y + i * s;
#pragma omp simd
    for (int64_t k = 0; k < s; ++k) {
      const A value = f(static_cast<A>(x[k]));
      y[k] = relu ? Relu::value(value) : value;
    }
  });
}

// Of g and of g xhat: sums over a segment, or means over a group, weighted.
template <class A> struct Sums { A g, g_xhat; };

// The gradient before relu, of that behind it.
template <bool relu, class A> A before_relu(A g, A x, const Normalised<A>& f) {
  return relu && !(f(x) > 0) ? A(0) : g;
}

template <bool relu, class T, class A>
std::vector<Sums<A>> segment_sums(const ChannelNormGradArgs<T>& a, A eps, const A* bias) {
  const int64_t s = a.shape.positions;
  std::vector<Sums<A>> sums(a.shape.segments());
  for_each_row(a.shape.segments(), s, [&](int64_t i) {
    const A rstd = 1 / math::sqrt(a.var[a.shape.group_of(i)] + eps);
    const auto f = normalised<A>(a.shape, i, a.mean, a.var, eps, a.weight, bias);
    const T *g = a.g + i * s, *x = a.x + i * s;
    const A sum = sum_terms<A>(
        s, [f](A gk, A xk) { return before_relu<relu>(gk, xk, f); }, g, x);
    const A dot = sum_terms<A>(
        s, [f](A gk, A xk) { return before_relu<relu>(gk, xk, f) * (xk - f.mean); }, g, x);
    sums[i] = {sum, s > 0 ? dot * rstd : A(0)};
  });
  return sums;
}

template <bool relu, class T, class A>
void input_gradient(const ChannelNormGradArgs<T>& a, A eps, const A* bias, const std::vector<Sums<A>>& sums) {
  const ChannelGroups& shape = a.shape;
  const int64_t s = shape.positions;
  std::vector<Sums<A>> means(shape.count());
  for_each_row(shape.count(), shape.members(), [&](int64_t q) {
    Sums<double> total = {};
    for (int64_t k = 0; k < shape.members(); ++k) {
      const int64_t i = shape.first(q) + k * shape.step();
      const A weight = a.weight[shape.weight_of(i)];
      total.g += weight * sums[i].g, total.g_xhat += weight * sums[i].g_xhat;
    }
    const auto n = static_cast<double>(shape.members() * s);
    means[q] = {static_cast<A>(total.g / n), static_cast<A>(total.g_xhat / n)};
  });
  for_each_row(shape.segments(), s, [&](int64_t i) {
    const int64_t q = shape.group_of(i);
    const A m = a.mean[q], rstd = 1 / math::sqrt(a.var[q] + eps), weight = a.weight[shape.weight_of(i)];
    const A shift = means[q].g, scale = means[q].g_xhat * rstd;
    const auto f = normalised<A>(a.shape, i, a.mean, a.var, eps, a.weight, bias);
    const T *g = a.g + i * s, *x = a.x + i * s;
    T* dx = a.dx + i * s;
#pragma omp simd
    for (int64_t k = 0; k < s; ++k) {
      const A xk = x[k], gk = before_relu<relu, A>(g[k], xk, f);
      dx[k] = rstd * (gk * weight - shift - (xk - m) * scale);
    }
  });
}

// Two sums per segment give everything: those of g and of g xhat. Weighted, they add up to what dx needs per
// group and, as they are, to the gradients of weight and bias per channel.
template <bool relu, class T>
void gradient_on_cpu(const ChannelNormGradArgs<T>& a, const accumulate_t<T>* bias) {
  using A = accumulate_t<T>;
  const auto eps = static_cast<A>(a.eps);
  const std::vector<Sums<A>> sums = segment_sums<relu>(a, eps, bias);
  if (a.dx) input_gradient<relu>(a, eps, bias, sums);
  if (!a.dweight) return;
  const int64_t weights = a.shape.passes * a.shape.channels;
  std::vector<Sums<double>> total(weights);
  for (int64_t i = 0; i < a.shape.segments(); ++i) {
    const int64_t c = a.shape.weight_of(i);
    total[c].g += sums[i].g, total[c].g_xhat += sums[i].g_xhat;
  }
  for (int64_t c = 0; c < weights; ++c)
    a.dweight[c] = static_cast<A>(total[c].g_xhat), a.dbias[c] = static_cast<A>(total[c].g);
}

}  // namespace

ChannelGroups ChannelNorm::shape_of(const Shape& x) const {
  int64_t positions = 1;
  for (int d = 2; d < x.size(); ++d) positions *= x[d];
  return {passes(), x[0], x[1], positions, groups};
}

ChannelNorm::Result ChannelNorm::normalise(const Tensors& in) {
  const Tensor y = output(in[0].shape(), in[0]);
  const ChannelGroups shape = shape_of(y.shape());
  Tensor statistics;
  dispatch_floating(name(), y.dtype(), [&]<class T>() {
    using A = accumulate_t<T>;
    const Tensor x = dense_passes(in[0], passes());
    const Tensor w = affine_values(in[1], {shape.channels}, dtype_of<A>, passes(), 1, y.device());
    const Tensor b = affine_values(in[2], {shape.channels}, dtype_of<A>, passes(), 0, y.device());
    statistics = empty({2, shape.count()}, {dtype_of<A>, y.device()});
    A* mean = statistics.device_data<A>();
    const ChannelNormArgs<T> args{shape,
                                  eps,
                                  x.device_data<T>(),
                                  w.device_data<A>(),
                                  b.device_data<A>(),
                                  y.device_data<T>(),
                                  mean,
                                  mean + shape.count()};
    if (!run_on_device(y, args)) relu ? normalise_on_cpu<true>(args) : normalise_on_cpu<false>(args);
  });
  save(in[0]), save(statistics), save(in[1]);
  if (relu) save(in[2]);
  return {y, statistics};
}

Tensors ChannelNorm::vjp(const Tensor& g) {
  if (grad_enabled()) return composed(g);
  return dispatch_floating(name(), g.dtype(), [&]<class T>() { return fused<T>(g); });
}

// Seen as [N, groups, channels of a group, positions].
Tensors ChannelNorm::composed(const Tensor& g) {
  const Tensor x = saved(0), weight = saved(2);
  const ChannelGroups shape = shape_of(x.shape());
  const int64_t n = shape.samples, parts = groups ? groups : shape.channels, each = shape.channels / parts;
  const Shape view{n, parts, each, shape.positions};
  const Tensor w = weight.defined() ? reshape(weight, {parts, each, 1}) : weight;
  const Tensors all =
      composed_norm_vjp(reshape(g, view), reshape(x, view), w, groups ? Shape{2, 3} : Shape{0, 3}, eps, true);
  auto per_channel = [&](const Tensor& t) { return reshape(t.sum({0, 3}), {shape.channels}); };
  return {reshape(all[0], x.shape()), per_channel(all[1]), per_channel(all[2])};
}

template <class T> Tensors ChannelNorm::fused(const Tensor& cotangent) {
  using A = accumulate_t<T>;
  const Device device = cotangent.device();
  const ChannelGroups shape = shape_of(cotangent.shape());
  const Tensor x = dense_passes(saved(0), passes()), g = dense_passes(cotangent, passes());
  const Tensor statistics = saved(1);
  const Tensor w = affine_values(saved(2), {shape.channels}, dtype_of<A>, passes(), 1, device);
  const bool weights = needs(1) || needs(2);
  const Tensor dx = needs(0) ? empty(cotangent.shape(), {dtype_of<T>, device}, passes()) : Tensor();
  const Tensor dw = weights ? empty({shape.channels}, {dtype_of<A>, device}, passes()) : Tensor();
  const Tensor db = weights ? empty({shape.channels}, {dtype_of<A>, device}, passes()) : Tensor();
  const A* mean = statistics.device_data<A>();
  const ChannelNormGradArgs<T> args{shape,
                                    eps,
                                    x.device_data<T>(),
                                    g.device_data<T>(),
                                    w.device_data<A>(),
                                    mean,
                                    mean + shape.count(),
                                    needs(0) ? dx.device_data<T>() : nullptr,
                                    weights ? dw.device_data<A>() : nullptr,
                                    weights ? db.device_data<A>() : nullptr};
  if (run_on_device(x, args)) return {dx, dw, db};
  const Tensor bias =
      affine_values(relu ? saved(3) : Tensor(), {shape.channels}, dtype_of<A>, passes(), 0, device);
  relu ? gradient_on_cpu<true>(args, bias.data<A>()) : gradient_on_cpu<false>(args, bias.data<A>());
  return {dx, dw, db};
}

}  // namespace tandem::detail
