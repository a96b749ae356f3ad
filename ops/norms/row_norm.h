// Layer norm and RMS norm: every row is normalised on its own, and the weights lie along it.
#pragma once

#include "autograd/grad_mode.h"
#include "autograd/kernel.h"
#include "autograd/op.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/rows.h"
#include "ops/norms/affine.h"
#include "ops/norms/row_norm_args.h"

namespace tandem::detail {

// y = (x - mean) rstd w + b; Centred or with mean 0. Stores the row's mean and rstd.
template <bool Centred, class T, class A>
void normalize_row(const T* x, const A* w, const A* b, int64_t n, A eps, T* y, A* mean, A* rstd) {
  A m = 0, r;
  if constexpr (Centred) {
    const MeanVar<A> stats = row_mean_var(x, n);
    m = stats.mean;
    r = 1 / math::sqrt(stats.var + eps);
  } else {
    r = 1 / math::sqrt(row_dot(x, x, n) / static_cast<A>(n) + eps);
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = (static_cast<A>(x[i]) - m) * r * w[i] + b[i];
  *mean = m, *rstd = r;
}

// The sums over a row of a = g w and of a xhat; adds g xhat to dw and g to db when Weights.
template <bool Weights, class T, class A>
std::pair<A, A> norm_sums(const T* g, const T* x, const A* w, int64_t n, A mean, A rstd, A* dw, A* db) {
  Block<A> sum = {}, dot = {};
  auto block = [&](int64_t i, int count) __attribute__((always_inline)) {
    for (int l = 0; l < count; ++l) {
      const A gi = static_cast<A>(g[i + l]), xhat = (static_cast<A>(x[i + l]) - mean) * rstd;
      const A a = gi * w[i + l];
      sum.lane[l] += a;
      dot.lane[l] += a * xhat;
      if constexpr (Weights) {
        dw[i + l] += gi * xhat;
        db[i + l] += gi;
      }
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) block(i, kLanes);
  block(i, static_cast<int>(n - i));
  return {fold(sum, plus), fold(dot, plus)};
}

// dx = rstd (a - mean(a) - xhat mean(a xhat)).
template <bool Centred, class T, class A>
void norm_row_grad(const T* g, const T* x, const A* w, int64_t n, A mean, A rstd, std::pair<A, A> sums,
                   T* dx) {
  const A shift = Centred ? sums.first / static_cast<A>(n) : A(0);
  const A slope = sums.second / static_cast<A>(n) * rstd;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A a = static_cast<A>(g[i]) * w[i], deviation = static_cast<A>(x[i]) - mean;
    dx[i] = rstd * (a - shift - deviation * slope);
  }
}

// Inputs x, weight, bias (bias only when Centred); weights have the shape of the trailing dimensions.
template <bool Centred>
struct RowNorm final : Op {
  Shape row_shape;
  double eps;
  bool weighted = false;
  RowNorm(const Shape& row_shape, double eps) : row_shape(row_shape), eps(eps) {}
  const char* name() const override { return Centred ? "layer_norm" : "rms_norm"; }

  Tensor forward(const Tensors& in) override {
    const Tensor y = output(in[0].shape(), in[0]);
    const int64_t n = row_shape.numel(), rows = n ? y.numel() / n : 0;  // of a pass
    dispatch_floating(name(), y.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      const Tensor x = dense_passes(in[0], passes());
      const Tensor w = affine_values(in[1], row_shape, dtype_of<A>, passes(), 1, y.device());
      const bool biased = Centred || y.device() == kCpu;
      const Tensor b =
          biased ? affine_values(Centred ? in[2] : Tensor(), row_shape, dtype_of<A>, passes(), 0, y.device())
                 : Tensor();
      const Tensor stats = empty({2, passes() * rows}, {dtype_of<A>, y.device()});
      save(in[0]), save(stats);
      if (on_device<T>(y, x, w, b, stats)) return;
      const T* xs = x.data<T>();
      const A *ws = w.data<A>(), *bs = b.data<A>();
      T* ys = y.data<T>();
      A *mean = stats.data<A>(), *rstd = mean + passes() * rows;
      for_each_row(passes() * rows, n, [=, e = static_cast<A>(eps)](int64_t row) {
        const int64_t pass = row / rows;
        normalize_row<Centred>(xs + row * n, ws + pass * n, bs + pass * n, n, e, ys + row * n, mean + row,
                               rstd + row);
      });
    });
    weighted = in[1].defined();
    if (weighted) save(in[1]);
    return y;
  }

  Tensors vjp(const Tensor& g) override {
    if (grad_enabled()) {
      Shape dims;
      for (int d = -row_shape.size(); d < 0; ++d) dims.push_back(d);
      Tensors all = composed_norm_vjp(g, saved(0), weighted ? saved(2) : Tensor(), dims, eps, Centred);
      if (!Centred) all.pop_back();
      return all;
    }
    Tensors result;
    dispatch_floating(name(), g.dtype(), [&]<class T>() { result = fused<T>(g); });
    return result;
  }

  // Runs the device's kernel; false on the CPU.
  template <class T>
  bool on_device(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& stats) {
    using A = accumulate_t<T>;
    if (y.device() == kCpu) return false;
    const int64_t n = row_shape.numel(), rows = n ? y.numel() / n : 0;
    A* mean = stats.device_data<A>();
    return run_on_device(y, NormRows<T>{passes(), rows, n, Centred, static_cast<A>(eps), x.device_data<T>(),
                                        w.device_data<A>(), b.defined() ? b.device_data<A>() : nullptr,
                                        y.device_data<T>(), mean, mean + passes() * rows});
  }

  // One sweep over the rows of all passes: dx per row, the weights' gradients in partial sums of fixed chunks
  // of rows, which are then added in their order.
  template <class T>
  Tensors fused(const Tensor& cotangent) {
    using A = accumulate_t<T>;
    const int m = passes();
    const bool dx_wanted = needs(0), dw_wanted = needs(1) || (Centred && needs(2));
    const Tensor x = dense_passes(saved(0), m), g = dense_passes(cotangent, m), stats = saved(1);
    const Device device = cotangent.device();
    const Tensor w = affine_values(weighted ? saved(2) : Tensor(), row_shape, dtype_of<A>, m, 1, device);
    const int64_t n = row_shape.numel(), rows = n ? cotangent.numel() / n : 0;
    const Tensor dx = dx_wanted ? empty(cotangent.shape(), {dtype_of<T>, device}, m) : Tensor();
    const Tensor dw = dw_wanted ? empty(row_shape, {dtype_of<A>, device}, m) : Tensor();
    const Tensor db = dw_wanted ? empty_like(dw) : Tensor();
    const auto result = [&] { return Centred ? Tensors{dx, dw, db} : Tensors{dx, dw}; };
    if (device != kCpu) {
      const A* mean = stats.device_data<A>();
      run_on_device(cotangent, NormRowsGrad<T>{m, rows, n, Centred, x.device_data<T>(), g.device_data<T>(),
                                               w.device_data<A>(), mean, mean + m * rows,
                                               dx_wanted ? dx.device_data<T>() : nullptr,
                                               dw_wanted ? dw.device_data<A>() : nullptr,
                                               dw_wanted && Centred ? db.device_data<A>() : nullptr});
      return result();
    }
    const int64_t chunk = std::max({int64_t{1}, kGrain / (2 * std::max<int64_t>(1, n)), (rows + 31) / 32});
    const int64_t chunks = (rows + chunk - 1) / chunk;  // of a pass
    const Tensor partial = dw_wanted ? empty({m * chunks, 2, n}, {dtype_of<A>}) : Tensor();
    const T *xs = x.data<T>(), *gs = g.data<T>();
    const A *ws = w.data<A>(), *mean = stats.data<A>(), *rstd = mean + m * rows;
    T* dxs = dx_wanted ? dx.data<T>() : nullptr;
    A* partials = dw_wanted ? partial.data<A>() : nullptr;
    parallel_for(m * chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const int64_t pass = c / chunks, first = c % chunks * chunk, last = std::min(rows, first + chunk);
        const A* weights = ws + pass * n;
        A *dw = partials + c * 2 * n, *db = dw + n;
        if (dw_wanted) std::fill(dw, dw + 2 * n, A(0));
        for (int64_t row = pass * rows + first; row < pass * rows + last; ++row) {
          const T *gr = gs + row * n, *xr = xs + row * n;
          const auto sums = dw_wanted ? norm_sums<true>(gr, xr, weights, n, mean[row], rstd[row], dw, db)
                                      : norm_sums<false>(gr, xr, weights, n, mean[row], rstd[row], dw, db);
          if (dx_wanted) {
            norm_row_grad<Centred>(gr, xr, weights, n, mean[row], rstd[row], sums, dxs + row * n);
          }
        }
      }
    });
    if (!dw_wanted) return result();
    A *dws = dw.zero_().data<A>(), *dbs = db.zero_().data<A>();
    for (int64_t c = 0; c < m * chunks; ++c) {
      const A* p = partials + c * 2 * n;
      A *dw_pass = dws + c / chunks * n, *db_pass = dbs + c / chunks * n;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dw_pass[i] += p[i], db_pass[i] += p[n + i];
    }
    return result();
  }
};

}  // namespace tandem::detail
