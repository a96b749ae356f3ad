// sum is the kernel; the other reductions are composed with it, and prod of products of halves.
#include "ops/reduce.h"

#include <cmath>
#include <limits>
#include <optional>

#include "autograd/grad_mode.h"
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

// A sum of more than kStretch terms is made in two stages: stretches in A, and their sums in f64.
template <class A, class T> wide_t<A> sum_line(const T* x, int64_t stride, int64_t n) {
  constexpr int64_t kFew = 8;  // no vector is worth it
  if constexpr (std::is_floating_point_v<A>) {
    if (n >= kFew) {
      if (stride == 1) return row_sum(x, n);
      double total = 0;
      for (int64_t begin = 0; begin < n; begin += detail::kTile) {
        const int64_t count = std::min(detail::kTile, n - begin);
        T tile[detail::kTile];
        for (int64_t i = 0; i < count; ++i) tile[i] = x[(begin + i) * stride];
        total += row_sum(tile, count);
      }
      return total;
    }
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
      *target += static_cast<A>(sum_line<A>(x, xs, n));
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

// The same for targets that get more than kStretch terms each.
template <class A, class T> class LongSums {
  using W = wide_t<A>;

 public:
  LongSums(const detail::Walk<2>& walk, int dim, int64_t begin, int64_t end) : walk_(walk) {
    walk_.sizes[dim] = end - begin;
    target_offset_ = begin * walk.strides[0][dim], x_offset_ = begin * walk.strides[1][dim];
    terms_[walk_.dims] = 1, extent_[walk_.dims] = 1;
    for (int d = walk_.dims - 1; d >= 0; --d) {
      const bool summed = walk_.strides[0][d] == 0;
      terms_[d] = terms_[d + 1] * (summed ? walk_.sizes[d] : 1);
      extent_[d] = extent_[d + 1] + (walk_.sizes[d] - 1) * walk_.strides[0][d];
    }
  }
  void run(W* target, const T* x) { add(0, target + target_offset_, x + x_offset_); }

 private:
  void add(int d, W* target, const T* x) {
    const int64_t ts = walk_.strides[0][d], xs = walk_.strides[1][d], n = walk_.sizes[d];
    if (ts == 0 && d == walk_.dims - 1) {
      *target += sum_line<A>(x, xs, n);
    } else if (terms_[d] <= kStretch) {
      stretch(d, 0, n, target, x);
    } else if (ts != 0 || terms_[d + 1] > kStretch) {
      for (int64_t i = 0; i < n; ++i) add(d + 1, target + i * ts, x + i * xs);
    } else {
      const int64_t step = kStretch / terms_[d + 1];
      for (int64_t i = 0; i < n; i += step) stretch(d, i, std::min(n, i + step), target, x);
    }
  }
  // Dimensions from d on, of d [begin, end): their sums in A first, each at its place relative to the target.
  void stretch(int d, int64_t begin, int64_t end, W* target, const T* x) {
    detail::Walk<2> part = walk_;
    part.dims -= d;
    for (int k = 0; k < part.dims; ++k) {
      part.sizes[k] = walk_.sizes[d + k];
      for (auto& strides : part.strides) strides[k] = strides[d + k];
    }
    if (!narrow_) narrow_.emplace(extent_[0]);
    accumulate(part, 0, begin, end, narrow_->data(), x);
    flush(d, target, narrow_->data());
  }
  // target += the sums, which are 0 then.
  void flush(int d, W* target, A* sums) {
    while (d < walk_.dims && walk_.strides[0][d] == 0) ++d;
    if (d == walk_.dims) {
      *target += *sums, *sums = 0;
      return;
    }
    const int64_t n = walk_.sizes[d], ts = walk_.strides[0][d];
    if (ts == 1) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) target[i] += sums[i], sums[i] = 0;
    } else {
      for (int64_t i = 0; i < n; ++i) flush(d + 1, target + i * ts, sums + i * ts);
    }
  }

  detail::Walk<2> walk_;
  int64_t target_offset_, x_offset_;
  int64_t terms_[kMaxDims + 2], extent_[kMaxDims + 2];  // of dimensions d and on: of a target; of all targets
  std::optional<detail::AlignedZeros<A>> narrow_;
};

// result += x over [begin, end) of a dimension; W is wide where targets get many terms.
template <class W, class A, class T>
void accumulate_part(const detail::Walk<2>& walk, int dim, int64_t begin, int64_t end, W* result,
                     const T* x) {
  if constexpr (std::is_same_v<W, A>) {
    accumulate(walk, dim, begin, end, result, x);
  } else {
    LongSums<A, T>(walk, dim, begin, end).run(result, x);
  }
}

// out = the sum of x, in W on the CPU; `target` is out seen in the shape of x, with stride 0 along what is
// summed.
template <class W, class A, class T> void sum_into(const Tensor& out, const Tensor& target, const Tensor& x) {
  const detail::Walk<2> walk = detail::make_walk<2>(target, {&x});
  if (out.device() != kCpu) [[unlikely]] {
    if (walk.numel == 0) return void(out.zero_());
    const auto run =
        [&]<class O>() {  // out's elements: the type of the result, or wide, if that is to be scaled
          run_on_device(x, detail::SumAlong<O, T>{walk, out.device_data<O>(), x.device_data<T>()});
        };
    if constexpr (std::is_integral_v<A>) return run.template operator()<A>();
    if (out.dtype() == dtype_of<T>) return run.template operator()<T>();
    return run.template operator()<A>();
  }
  out.zero_();
  if (walk.numel == 0) return;
  W* result = out.data<W>();
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
      accumulate_part<W, A>(walk, split, begin, end, result, source);
    });
  }
  // Few sums of many rows: partial sums of fixed chunks, added in their order.
  const int64_t chunk = std::max(grain, (rows + 63) / 64), chunks = (rows + chunk - 1) / chunk;
  if (chunks == 1) return accumulate_part<W, A>(walk, 0, 0, rows, result, source);
  const auto by_parts = [&]<class P>() {
    const Tensor partial = zeros({chunks, out_numel}, {dtype_of<P>});
    P* sums = partial.data<P>();
    parallel_for(chunks, 1, [&](int64_t b, int64_t e) {
      for (int64_t c = b; c < e; ++c) {
        accumulate_part<P, A>(walk, 0, c * chunk, std::min(rows, (c + 1) * chunk), sums + c * out_numel,
                              source);
      }
    });
    parallel_for(out_numel, 4096, [&](int64_t b, int64_t e) {
      for (int64_t c = 0; c < chunks; ++c) {
        const P* p = sums + c * out_numel;
#pragma omp simd
        for (int64_t i = b; i < e; ++i) result[i] += p[i];
      }
    });
  };
  const bool few_terms = walk.numel / out_numel / rows * chunk <= kStretch;  // in a chunk
  few_terms ? by_parts.template operator()<A>() : by_parts.template operator()<W>();
}

// The sum, divided by a number, rounded once.
struct Sum final : Op {
  std::vector<bool> summed;  // per dimension of x
  bool over_passes;
  double divisor;
  Sum(const std::vector<bool>& summed, bool over_passes, double divisor)
      : summed(summed), over_passes(over_passes), divisor(divisor) {}
  const char* name() const override { return "sum"; }

  Tensor forward(const Tensors& in) override {
    const Tensor& x = in[0];
    const Shape kept = detail::reduced_shape(x, summed, true);
    const bool integral = !is_floating(x.dtype());
    const int64_t terms = x.numel() / std::max<int64_t>(1, kept.numel()) * (over_passes ? x.passes() : 1);
    if (over_passes) set_passes(1);
    Tensor result;
    dispatch_all(x.dtype(), [&]<class T>() {
      using A = std::conditional_t<std::is_same_v<T, bool>, int64_t, accumulate_t<T>>;
      const auto run = [&]<class W>(DType sums) {
        const Tensor out = output(kept, sums, x.device());
        Shape strides = out.strides();
        for (int i = 0; i < x.dim(); ++i) strides[i] = summed[i] ? 0 : strides[i];
        const Tensor target =
            make_view(out, x.shape(), strides, 0, x.passes(), over_passes ? 0 : out.pass_stride());
        sum_into<W, A, T>(out, target, x);
        const NoGradGuard guard;
        if (divisor != 1) out.div_(divisor);
        result = integral ? out : out.to(x.dtype());
      };
      if (x.device() != kCpu) {
        run.template operator()<A>(integral ? DType::i64 : divisor == 1 ? x.dtype() : dtype_of<A>);
      } else if (terms > kStretch) {
        run.template operator()<wide_t<A>>(dtype_of<wide_t<A>>);
      } else {
        run.template operator()<A>(dtype_of<A>);
      }
    });
    return result;
  }
  // The engine repeats it along what was summed.
  Tensors vjp(const Tensor& g) override { return {divisor == 1 ? g : g / divisor}; }
};

Tensor sum_keepdim(const Tensor& x, const std::vector<bool>& summed, bool over_passes, double divisor = 1) {
  return apply<Sum>({x}, summed, over_passes, divisor);
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
  const std::vector<bool> summed = detail::reduced_dims("mean", x, dims);
  const int64_t n = count(x, summed);
  const Tensor result = sum_keepdim(x, summed, false, static_cast<double>(n));
  return keepdim ? result : without(result, summed);
}

Tensor var(const Tensor& x, const Shape& dims, double correction, bool keepdim) {
  check<DTypeError>(is_floating(x.dtype()), "var: expected a floating dtype, got {}", describe(x));
  const double divisor = count(x, detail::reduced_dims("var", x, dims)) - correction;
  const Tensor wide = x.dtype() == DType::bf16 ? x.to(DType::f32) : x;  // statistics are rounded once
  const Tensor total = sum(square(wide - mean(wide, dims, true)), dims, keepdim);
  return (total / (divisor > 0 ? divisor : std::numeric_limits<double>::quiet_NaN())).to(x.dtype());
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

Tensor all(const Tensor& x, const Shape& dims, bool keepdim) {
  detail::reduced_dims("all", x, dims);  // so that errors name this op
  return eq(sum(eq(x, 0), dims, keepdim), 0);
}

Tensor any(const Tensor& x, const Shape& dims, bool keepdim) {
  detail::reduced_dims("any", x, dims);
  return ne(sum(ne(x, 0), dims, keepdim), 0);
}

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

RegisterOp register_truths(const std::string& name, Tensor (*f)(const Tensor&, const Shape&, bool)) {
  const auto cases = [=](OpCases& c) {
    const auto over = bound(f);
    c.sample("all", {c.mask({3, 4})}, over({}, false));
    c.sample("rows", {c.mask({5, 2}, 0.5)}, over({-1}, false));
    c.sample("numbers, kept", {c.integers({5, 2}, 0, 2)}, over({1}, true));
    c.sample("nothing", {c.mask({2, 0})}, over({1}, false));
    c.fails<ShapeError>("dim", name + ": dim 2 is out of range", {zeros({2, 3})}, over({2}, false));
  };
  return RegisterOp(name, cases, {.differentiable = false});
}
const RegisterOp all_op = register_truths("all", all);
const RegisterOp any_op = register_truths("any", any);

}  // namespace
}  // namespace tandem
