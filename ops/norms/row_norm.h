// Layer norm and RMS norm: every row is normalised on its own, and the weights lie along it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "autograd/arrived.h"
#include "autograd/grad_mode.h"
#include "autograd/kernel.h"
#include "autograd/op.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/rows.h"
#include "ops/norms/affine.h"
#include "ops/norms/row_norm_args.h"
#include "ops/residual_kernel.h"

namespace tandem::detail {

// Mean (0 unless Centred) and rstd of a row of finite values whose squares, or sum, overflow.
template <bool Centred, class A, class T> std::pair<A, A> huge_statistics(const T* x, int64_t n, A eps) {
  const A largest = reduce_rows(
      n, A(0), larger, [](A v) { return v < 0 ? -v : v; }, x);
  if (!std::isfinite(largest)) return {largest, std::numeric_limits<A>::quiet_NaN()};
  const A by = 1 / largest;
  const A mean = Centred ? sum_terms<A>(
                               n, [by](A v) { return v * by; }, x) /
                               static_cast<A>(n)
                         : A(0);
  const A squares = sum_terms<A>(
      n, [=](A v) { return (v * by - mean) * (v * by - mean); }, x);
  return {mean * largest, rstd_of_huge(largest, squares / static_cast<A>(n), eps)};
}

// y = (x - mean) rstd w + b; Centred or with mean 0. Stores the row's mean and rstd.
template <bool Centred, class T, class O, class A>
void normalize_row(const T* x, const A* w, const A* b, int64_t n, A eps, O* y, A* mean, A* rstd) {
  A m = 0, var;
  if constexpr (Centred) {
    const MeanVar<A> stats = row_mean_var(x, n);
    m = stats.mean, var = stats.var;
  } else {
    var = row_dot(x, x, n) / static_cast<A>(n);
  }
  A r = 1 / math::sqrt(var + eps);
  if (!std::isfinite(var) && n > 0) [[unlikely]]
    std::tie(m, r) = huge_statistics<Centred>(x, n, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = (static_cast<A>(x[i]) - m) * r * w[i] + b[i];
  *mean = m, *rstd = r;
}

// The sums over a row of a = g w and of a xhat; adds g xhat to dw and g to db when Weights.
template <bool Weights, class T, class G, class A>
std::pair<A, A> norm_sums(const G* g, const T* x, const A* w, int64_t n, A mean, A rstd, A* dw, A* db) {
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

// dx = rstd (a - mean(a) - xhat mean(a xhat)), which is added to dx where Adds.
template <bool Centred, bool Adds, class T, class G, class A>
void norm_row_grad(const G* g, const T* x, const A* w, int64_t n, A mean, A rstd, std::pair<A, A> sums,
                   T* dx) {
  const A shift = Centred ? sums.first / static_cast<A>(n) : A(0);
  const A scale = sums.second / static_cast<A>(n) * rstd;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A a = static_cast<A>(g[i]) * w[i], deviation = static_cast<A>(x[i]) - mean;
    const A own = rstd * (a - shift - deviation * scale);
    dx[i] = Adds ? static_cast<A>(dx[i]) + own : own;
  }
}

template <bool Centred, class T, class O> void normalize_rows(const NormRows<T, O>& a) {
  for_each_row(a.passes * a.rows, a.n, [a](int64_t row) {
    const int64_t weights = row / a.rows * a.weight_pass;
    prefetch_row(a.x + (row + 1) * a.n, a.n);
    normalize_row<Centred>(a.x + row * a.n, a.weight + weights, a.bias + weights, a.n, a.eps, a.y + row * a.n,
                           a.mean + row, a.rstd + row);
  });
}

// One sweep over the rows of all passes: dx per row, the weights' gradients in partial sums of fixed chunks
// of rows, which are then added in their order.
template <bool Centred, class T, class G> void norm_rows_grad(const NormRowsGrad<T, G>& a) {
  using A = accumulate_t<T>;
  const int64_t n = a.n, rows = a.rows;
  const int64_t chunk = std::max({int64_t{1}, kGrain / (2 * std::max<int64_t>(1, n)), (rows + 31) / 32});
  const int64_t chunks = (rows + chunk - 1) / chunk;  // of a pass
  const Tensor partial = a.dweight ? empty({a.passes * chunks, 2, n}, {dtype_of<A>}) : Tensor();
  A* partials = a.dweight ? partial.data<A>() : nullptr;
  parallel_for(a.passes * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const int64_t pass = c / chunks, first = c % chunks * chunk, last = std::min(rows, first + chunk);
      const A* w = a.weight + pass * a.weight_pass;
      ColumnSums<A> sums_of_rows(partials ? 2 * n : 0);
      for (int64_t row = pass * rows + first; row < pass * rows + last; ++row) {
        const G* g = a.g + row * n;
        const T* x = a.x + row * n;
        const A mean = a.mean[row], rstd = a.rstd[row];
        prefetch_row(g + n, n), prefetch_row(x + n, n);
        A* dw = partials ? sums_of_rows.next_row() : nullptr;
        const auto sums = partials ? norm_sums<true>(g, x, w, n, mean, rstd, dw, dw + n)
                                   : norm_sums<false>(g, x, w, n, mean, rstd, dw, dw);
        if (!a.dx) continue;
        T* dx = a.dx + row * n;
        a.adds ? norm_row_grad<Centred, true>(g, x, w, n, mean, rstd, sums, dx)
               : norm_row_grad<Centred, false>(g, x, w, n, mean, rstd, sums, dx);
      }
      if (partials) sums_of_rows.write(partials + c * 2 * n);
    }
  });
  const int64_t chunks_of_sum = a.weight_pass == 0 ? a.passes * chunks : chunks;
  const auto add_chunks = [&](A* sums, const A* parts) {
    std::fill_n(sums, a.weight_pass == 0 ? n : a.passes * n, A(0));
    for (int64_t c = 0; c < a.passes * chunks; ++c) {
      const A* part = parts + c * 2 * n;
      A* of_pass = sums + c / chunks_of_sum * n;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) of_pass[i] += part[i];
    }
  };
  if (a.dweight) add_chunks(a.dweight, partials);
  if (a.dbias) add_chunks(a.dbias, partials + n);
}

// Calls f.operator()<T, O>() for an x of T and a result of O: the same dtype, or bf16 of f32.
template <class F> decltype(auto) dispatch_norm(const char* op, DType x, DType y, F&& f) {
  if (x == DType::f32 && y == DType::bf16) return f.template operator()<float, bf16>();
  return dispatch_floating(op, x, [&]<class T>() { return f.template operator()<T, T>(); });
}

// Of how many passes weights are read: of one where they are the same in all m.
inline int passes_of_weights(int m, const Tensors& weights) {
  const auto differ = [](const Tensor& w) { return w.defined() && w.passes() > 1; };
  return std::any_of(weights.begin(), weights.end(), differ) ? m : 1;
}

// On a device, of a residual sum of rows of n whose norm is the first to read it, and so the last to give to
// its gradient: the norm's kernel makes the gradient of the sum's branch, too. The sum's vjp takes it if its
// cotangent is the one that was made beside it.
class BranchGradient {
 public:
  BranchGradient(DType dtype, int64_t n, const BranchNoise& noise) : dtype_(dtype), n_(n), noise_(noise) {}

  // For the first norm of the sum, of rows of n.
  bool claim(int64_t n) { return n == n_ && !std::exchange(claimed_, true); }
  // Whether the kernel can read these rows in vectors.
  template <class G> static bool takes(const NormRowsGrad<float, G>& args) {
    const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
    return args.dx && aligned(args.x) && aligned(args.g) && aligned(args.dx) && aligned(args.weight);
  }
  // Fills dx, of an input that the norm alone has yet to give to, and the branch's gradient.
  template <class G> void make(const NormRowsGrad<float, G>& args, const Tensor& dx) {
    dz_ = empty(dx.shape(), {dtype_, dx.device()}, dx.passes());
    const auto run = [&]<class Z>() {
      run_on_device(dx, ResidualNormGrad<G, Z>{args, dz_.device_data<Z>(), noise_});
    };
    dtype_ == DType::bf16 ? run.template operator()<bf16>() : run.template operator()<float>();
    of_ = dx.impl(), version_ = dx.version();
  }
  // Undefined where it was made beside another cotangent than g, or not at all.
  Tensor take(const Tensor& g) {
    const bool fits = dz_.defined() && of_.lock() == g.impl() && g.version() == version_;
    Tensor dz = std::exchange(dz_, {});
    return fits ? dz : Tensor();
  }

 private:
  DType dtype_;
  int64_t n_;
  bool claimed_ = false;
  BranchNoise noise_;
  Tensor dz_;
  std::weak_ptr<TensorImpl> of_;
  int64_t version_ = 0;
};

// A residual sum as the norm that reads it sees it.
struct BranchedSum : Op {
  std::shared_ptr<BranchGradient> branch;  // or null
};

// A norm that another op's kernel has made, its rows' mean and rstd, and what its gradient's kernel makes.
struct MadeNorm {
  Tensor y, stats;
  std::shared_ptr<BranchGradient> branch = nullptr;
};

// Inputs x, weight, bias (bias only when Centred); weights have the shape of the trailing dimensions. The
// result is of x's dtype, or bf16 of an x of f32.
template <bool Centred> struct RowNorm final : Op {
  Shape row_shape;
  double eps;
  DType dtype;
  MadeNorm made;  // or none: forward() computes it
  int apart = 1;  // passes of the weights, and so of their gradients
  RowNorm(const Shape& row_shape, double eps, DType dtype, const MadeNorm& made = {})
      : row_shape(row_shape), eps(eps), dtype(dtype), made(made) {}
  const char* name() const override { return Centred ? "layer_norm" : "rms_norm"; }

  Tensor forward(const Tensors& in) override {
    const Tensor bias = Centred ? in[2] : Tensor();
    apart = passes_of_weights(passes(), {in[1], bias});
    if (made.y.defined()) {
      save(in[0]), save(std::exchange(made.stats, {})), save(in[1]);
      return std::exchange(made.y, {});
    }
    const Tensor y = output(in[0].shape(), dtype, in[0].device());
    const Device device = y.device();
    const int64_t n = row_shape.numel(), rows = n ? y.numel() / n : 0;  // of a pass
    dispatch_norm(name(), in[0].dtype(), dtype, [&]<class T, class O>() {
      using A = accumulate_t<T>;
      const Tensor x = dense_passes(in[0], passes());
      const Tensor w = affine_values(in[1], row_shape, dtype_of<A>, apart, 1, device);
      const Tensor b = Centred || device == kCpu
                           ? affine_values(bias, row_shape, dtype_of<A>, apart, 0, device)
                           : Tensor();
      const Tensor stats = empty({2, passes() * rows}, {dtype_of<A>, device});
      save(in[0]), save(stats), save(in[1]);
      A* mean = stats.device_data<A>();
      const NormRows<T, O> args{.passes = passes(),
                                .rows = rows,
                                .n = n,
                                .centred = Centred,
                                .eps = static_cast<A>(eps),
                                .x = x.device_data<T>(),
                                .weight = w.device_data<A>(),
                                .bias = b.defined() ? b.device_data<A>() : nullptr,
                                .weight_pass = apart > 1 ? n : 0,
                                .y = y.device_data<O>(),
                                .mean = mean,
                                .rstd = mean + passes() * rows};
      if (!run_on_device(y, args)) normalize_rows<Centred>(args);
    });
    return y;
  }

  Tensors vjp(const Tensor& g) override {
    if (grad_enabled()) {
      Shape dims;
      for (int d = -row_shape.size(); d < 0; ++d) dims.push_back(d);
      Tensors all = composed_norm_vjp(g, saved(0), saved(2), dims, eps, Centred);
      if (!Centred) all.pop_back();
      return all;
    }
    return dispatch_norm(name(), saved(0).dtype(), g.dtype(),
                         [&]<class T, class G>() { return fused<T, G>(g); });
  }

  template <class T, class G> Tensors fused(const Tensor& cotangent) {
    using A = accumulate_t<T>;
    const int m = passes();
    const bool weights = needs(1) || (Centred && needs(2));
    const Tensor x = dense_passes(saved(0), m), g = dense_passes(cotangent, m), stats = saved(1);
    const Device device = cotangent.device();
    const Tensor w = affine_values(saved(2), row_shape, dtype_of<A>, apart, 1, device);
    const int64_t n = row_shape.numel(), rows = n ? cotangent.numel() / n : 0;
    Tensor dx = needs(0) && saved(0).passes() == m ? arrived(*this, 0) : Tensor();
    const bool adds = dx.defined();
    if (needs(0) && !adds) dx = empty(cotangent.shape(), {dtype_of<T>, device}, m);
    const Tensor dw = weights ? empty(row_shape, {dtype_of<A>, device}, apart) : Tensor();
    const Tensor db = weights && Centred ? empty_like(dw) : Tensor();
    const A* mean = stats.device_data<A>();
    const NormRowsGrad<T, G> args{.passes = m,
                                  .rows = rows,
                                  .n = n,
                                  .centred = Centred,
                                  .x = x.device_data<T>(),
                                  .g = g.device_data<G>(),
                                  .weight = w.device_data<A>(),
                                  .mean = mean,
                                  .rstd = mean + m * rows,
                                  .weight_pass = apart > 1 ? n : 0,
                                  .dx = dx.defined() ? dx.device_data<T>() : nullptr,
                                  .adds = adds,
                                  .dweight = dw.defined() ? dw.device_data<A>() : nullptr,
                                  .dbias = db.defined() ? db.device_data<A>() : nullptr};
    bool done = false;
    if constexpr (std::is_same_v<T, float>) {
      if (made.branch && made.branch->takes(args)) made.branch->make(args, dx), done = true;
    }
    if (!done && !run_on_device(cotangent, args)) norm_rows_grad<Centred>(args);
    return Centred ? Tensors{dx, dw, db} : Tensors{dx, dw};
  }
};

// The norm of x in `dtype`, x's own where there is none.
template <bool Centred>
Tensor row_norm(const Tensors& in, const Shape& row_shape, double eps, std::optional<DType> dtype) {
  const DType own = in[0].dtype(), wanted = dtype.value_or(own);
  const bool converts = own == DType::f32 && wanted == DType::bf16;
  MadeNorm made;
  if (const auto sum = grad_enabled() ? std::dynamic_pointer_cast<BranchedSum>(in[0].grad_fn()) : nullptr)
    if (sum->branch && sum->branch->claim(row_shape.numel())) made.branch = sum->branch;
  return apply<RowNorm<Centred>>(in, row_shape, eps, converts ? wanted : own, made).to(wanted);
}

}  // namespace tandem::detail
