// sum is the kernel; the other reductions are composed with it, and prod of products of halves.
#include "ops/reduce.h"

#include <cmath>
#include <limits>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/used_ops.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/loops/loop.h"
#include "ops/loops/reduced_dims.h"
#include "ops/loops/row_reduce.h"
#include "ops/pointwise.h"
#include "ops/reduce_kernel.h"
#include "ops/views.h"

namespace tandem {
namespace {

template <class A, class T> A sum_stretch(const T* x, int64_t stride, int64_t n) {
  if constexpr (std::is_floating_point_v<compute_t<T>>) {
    if (stride == 1) return row_sum(x, n);
  }
  A total = 0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<A>(static_cast<compute_t<T>>(x[i * stride]));
  return total;
}

// target += x over [begin, end) of the walk's dimension `dim`. Operand 0 is the target, whose stride is 0
// along summed dimensions.
template <class A, class T>
void accumulate(const detail::Walk<2>& walk, int dim, int64_t begin, int64_t end, A* target, const T* x) {
  detail::Walk<2> part = walk;
  target += begin * walk.strides[0][dim], x += begin * walk.strides[1][dim];
  part.sizes[dim] = end - begin;
  const int last = part.dims - 1;
  const int64_t n = part.sizes[last], ts = part.strides[0][last], xs = part.strides[1][last];
  int64_t rows = 1, index[kMaxDims + 1] = {};
  for (int d = 0; d < last; ++d) rows *= part.sizes[d];
  for (int64_t row = 0; row < rows; ++row) {
    if (ts == 0) {
      *target += sum_stretch<A>(x, xs, n);
    } else if (ts == 1 && xs == 1) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) target[i] += static_cast<A>(static_cast<compute_t<T>>(x[i]));
    } else {
      for (int64_t i = 0; i < n; ++i) target[i * ts] += static_cast<A>(static_cast<compute_t<T>>(x[i * xs]));
    }
    for (int d = last - 1; d >= 0; --d) {
      target += part.strides[0][d], x += part.strides[1][d];
      if (++index[d] < part.sizes[d]) break;
      target -= part.sizes[d] * part.strides[0][d], x -= part.sizes[d] * part.strides[1][d];
      index[d] = 0;
    }
  }
}

// out = the sum of x, in A; `target` is out seen in the shape of x, with stride 0 along what is summed.
template <class A, class T> void sum_into(const Tensor& out, const Tensor& target, const Tensor& x) {
  const detail::Walk<2> walk = detail::make_walk<2>(target, {&x});
  if (out.device() != kCpu) [[unlikely]] {  // out has the type of the result
    using O = std::conditional_t<std::is_integral_v<A>, A, T>;
    if (walk.numel == 0) return void(out.zero_());
    run_on_device(x, detail::SumAlong<O, T>{walk, out.device_data<O>(), x.device_data<T>()});
    return;
  }
  out.zero_();
  if (walk.numel == 0) return;
  A* result = out.data<A>();
  const T* source = x.data<T>();
  const int64_t out_numel = out.numel() * out.passes();
  // The threads share a dimension that is kept (their targets are disjoint): the outermost, or the longest
  // where the outermost is summed.
  int split = 0;
  if (walk.strides[0][0] == 0 && out_numel >= 4096) {
    int64_t longest = 0;
    for (int d = 1; d < walk.dims; ++d) {
      if (walk.strides[0][d] != 0 && walk.sizes[d] > longest) longest = walk.sizes[split = d];
    }
  }
  const int64_t rows = walk.sizes[split], per_row = walk.numel / rows;
  const int64_t grain = std::max<int64_t>(split > 0 ? 64 : 1, detail::kGrain / per_row);
  if (walk.strides[0][split] != 0) {
    return parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      accumulate(walk, split, begin, end, result, source);
    });
  }
  // Few sums of many rows: partial sums of fixed chunks, added in their order.
  const int64_t chunk = std::max(grain, (rows + 63) / 64), chunks = (rows + chunk - 1) / chunk;
  if (chunks == 1) return accumulate(walk, 0, 0, rows, result, source);
  const Tensor partial = zeros({chunks, out_numel}, {out.dtype(), out.device()});
  A* sums = partial.data<A>();
  parallel_for(chunks, 1, [&](int64_t b, int64_t e) {
    for (int64_t c = b; c < e; ++c) {
      accumulate(walk, 0, c * chunk, std::min(rows, (c + 1) * chunk), sums + c * out_numel, source);
    }
  });
  parallel_for(out_numel, 4096, [&](int64_t b, int64_t e) {
    for (int64_t c = 0; c < chunks; ++c) {
      const A* p = sums + c * out_numel;
#pragma omp simd
      for (int64_t i = b; i < e; ++i) result[i] += p[i];
    }
  });
}

struct Sum final : Op {
  std::vector<bool> summed;  // per dimension of x
  bool over_passes;
  Sum(const std::vector<bool>& summed, bool over_passes) : summed(summed), over_passes(over_passes) {}
  const char* name() const override { return "sum"; }

  Tensor forward(const Tensors& in) override {
    const Tensor& x = in[0];
    const Shape kept = detail::reduced_shape(x, summed, true);
    const bool integral = !is_floating(x.dtype());
    if (over_passes) set_passes(1);
    Tensor result;
    dispatch_all(x.dtype(), [&]<class T>() {
      using A = std::conditional_t<std::is_same_v<T, bool>, int64_t, accumulate_t<T>>;
      const DType sums = x.device() != kCpu && !integral ? x.dtype() : dtype_of<A>;
      const Tensor out = output(kept, sums, x.device());
      Shape strides = out.strides();
      for (int i = 0; i < x.dim(); ++i) strides[i] = summed[i] ? 0 : strides[i];
      const Tensor target =
          make_view(out, x.shape(), strides, 0, x.passes(), over_passes ? 0 : out.pass_stride());
      sum_into<A, T>(out, target, x);
      result = integral ? out : out.to(x.dtype());
    });
    return result;
  }
  Tensors vjp(const Tensor& g) override { return {g}; }  // the engine repeats it along what was summed
};

Tensor sum_keepdim(const Tensor& x, const std::vector<bool>& summed, bool over_passes) {
  return apply<Sum>({x}, summed, over_passes);
}

Tensor without(const Tensor& x, const std::vector<bool>& dropped) {
  return reshape(x, detail::reduced_shape(x, dropped, false));
}

int64_t count(const Tensor& x, const std::vector<bool>& summed) {
  int64_t n = 1;
  for (int i = 0; i < x.dim(); ++i) n *= summed[i] ? x.shape()[i] : 1;
  return n;
}

}  // namespace

Tensor sum_to(const Tensor& x, const Shape& shape, int passes) {
  std::vector<bool> summed(x.dim());
  bool any = false;
  for (int i = 0; i < x.dim(); ++i) {
    const int own = i - (x.dim() - shape.size());
    summed[i] = x.shape()[i] != 1 && (own < 0 || shape[own] == 1);
    any |= summed[i];
  }
  const bool over_passes = passes == 1 && x.passes() > 1;
  const Tensor result = any || over_passes ? sum_keepdim(x, summed, over_passes) : x;
  return result.dim() == shape.size() ? result : reshape(result, shape);
}

Tensor sum(const Tensor& x, const Shape& dims, bool keepdim) {
  const std::vector<bool> summed = detail::reduced_dims("sum", x, dims);
  const Tensor result = sum_keepdim(x, summed, false);
  return keepdim ? result : without(result, summed);
}

Tensor mean(const Tensor& x, const Shape& dims, bool keepdim) {
  check<DTypeError>(is_floating(x.dtype()), "mean: expected a floating dtype, got {}", describe(x));
  const int64_t n = count(x, detail::reduced_dims("mean", x, dims));
  return affine(sum(x, dims, keepdim), n ? 1.0 / n : std::numeric_limits<double>::quiet_NaN(), 0);
}

Tensor var(const Tensor& x, const Shape& dims, double correction, bool keepdim) {
  check<DTypeError>(is_floating(x.dtype()), "var: expected a floating dtype, got {}", describe(x));
  const double divisor = count(x, detail::reduced_dims("var", x, dims)) - correction;
  const Tensor total = sum(square(x - mean(x, dims, true)), dims, keepdim);
  return affine(total, divisor > 0 ? 1 / divisor : std::numeric_limits<double>::quiet_NaN(), 0);
}

Tensor stddev(const Tensor& x, const Shape& dims, double correction, bool keepdim) {
  check<DTypeError>(is_floating(x.dtype()), "stddev: expected a floating dtype, got {}", describe(x));
  detail::reduced_dims("stddev", x, dims);  // so that errors name this op
  // Equal values have derivative 0, by convention: sqrt's own is infinite at 0.
  const Tensor v = var(x, dims, correction, keepdim), equal = eq(v, 0);
  return masked_fill(sqrt(masked_fill(v, equal, 1)), equal, 0);
}

// Halves are multiplied until one value is left. No division, so zeros need no care.
Tensor prod(const Tensor& x, const Shape& dims, bool keepdim) {
  const std::vector<bool> reduced = detail::reduced_dims("prod", x, dims);
  Tensor y = x;
  for (int d = 0; d < x.dim(); ++d) {
    if (!reduced[d]) continue;
    if (y.shape()[d] == 0) y = sum(y, {d}, true) + 1.0;  // 1, and still on the tape
    Tensor rest;                                         // the last of an odd number
    while (y.shape()[d] > 1) {
      const int64_t n = y.shape()[d], half = n / 2;
      if (n % 2) {
        const Tensor last = slice(y, d, n - 1, n);
        rest = rest.defined() ? rest * last : last;
      }
      y = slice(y, d, 0, half) * slice(y, d, half, 2 * half);
    }
    if (rest.defined()) y = y * rest;
  }
  return keepdim ? y : without(y, reduced);
}

Tensor Tensor::sum() const { return tandem::sum(*this); }
Tensor Tensor::sum(const Shape& dims, bool keepdim) const { return tandem::sum(*this, dims, keepdim); }
Tensor Tensor::mean() const { return tandem::mean(*this); }
Tensor Tensor::mean(const Shape& dims, bool keepdim) const { return tandem::mean(*this, dims, keepdim); }

namespace {

RegisterOp register_reduction(const std::string& name, Tensor (*f)(const Tensor&, const Shape&, bool)) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto over = bound(f);
    // The first sum is not near 0, where all digits but rounding cancel.
    c.sample("all", {c.uniform({3, 4}, -1, 2)}, over({}, false));
    c.sample("last", {c.normal({3, 4})}, over({-1}, false));
    c.sample("first, kept", {c.normal({3, 4})}, over({0}, true));
    c.sample("middle", {c.normal({2, 3, 4})}, over({1}, false));
    c.sample("outer two", {c.normal({2, 3, 40})}, over({0, 2}, false));
    c.fails<ShapeError>("dim", name + ": dim 2 is out of range for a tensor of 2 dimensions", {zeros({2, 3})},
                        over({2}, false));
    c.fails<ShapeError>("twice", name + ": dim 0 appears twice in [0,0]", {zeros({2, 3})},
                        over({0, 0}, false));
  });
}

const RegisterOp sum_op = register_reduction("sum", sum);
const RegisterOp mean_op = register_reduction("mean", mean);
const RegisterOp prod_op = register_reduction("prod", prod);
const RegisterOp var_op = register_reduction(
    "var", [](const Tensor& x, const Shape& dims, bool keepdim) { return var(x, dims, 1, keepdim); });
const RegisterOp stddev_op = register_reduction(
    "stddev", [](const Tensor& x, const Shape& dims, bool keepdim) { return stddev(x, dims, 1, keepdim); });

}  // namespace
}  // namespace tandem
