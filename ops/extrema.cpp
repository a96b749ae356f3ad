// One kernel finds the index of an extreme value along a dimension; everything else is composed with it:
// max along a dimension gathers, amax shares its gradient among the elements that equal the result.
#include "ops/extrema.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/extrema_kernel.h"
#include "ops/loops/gather.h"
#include "ops/loops/reduced_dims.h"
#include "ops/loops/rows.h"
#include "ops/reduce.h"
#include "ops/views.h"

namespace tandem {
namespace {

template <bool largest> struct ArgExtreme final : Op {
  int dim;
  explicit ArgExtreme(int dim) : dim(dim) {}
  const char* name() const override { return largest ? "argmax" : "argmin"; }

  Tensor forward(const Tensors& in) override {  // [outer, n, inner] -> [outer, 1, inner]
    const Tensor x = dense(in[0]);
    Shape shape = x.shape();
    const int64_t n = shape[dim];
    shape[dim] = 1;
    const Tensor out = output(shape, DType::i64, x.device());
    int64_t inner = 1;
    for (int i = dim + 1; i < x.dim(); ++i) inner *= shape[i];
    static constexpr int64_t kColumns = 128;
    const int64_t blocks = (inner + kColumns - 1) / kColumns;
    const int64_t tasks = blocks == 0 ? 0 : out.numel() * out.passes() / inner * blocks;
    dispatch_all(x.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      if (run_on_device(x, detail::ArgExtremes<largest, T>{x.device_data<T>(), out.device_data<int64_t>(),
                                                           tasks == 0 ? 0 : tasks / blocks, n, inner})) {
        return;
      }
      const T* source = x.data<T>();
      int64_t* target = out.data<int64_t>();
      detail::for_each_row(tasks, n * std::min(inner, kColumns), [&](int64_t task) {
        const int64_t outer = task / blocks, column = task % blocks * kColumns;
        const T* block = source + outer * n * inner + column;
        int64_t* result = target + outer * inner + column;
        if (inner == 1) {
          *result = along_row(block, n);
        } else {
          along_columns<C>(block, n, inner, std::min(kColumns, inner - column), result);
        }
      });
    });
    return out;
  }
  Tensors vjp(const Tensor&) override { return {}; }

 private:
  // As columns of a matrix that is read row by row, in vectors; then the best of their best, and the rest.
  template <class T> static int64_t along_row(const T* x, int64_t n) {
    using C = compute_t<T>;
    constexpr int64_t kColumns = 32;
    const int64_t steps = n / kColumns;
    int64_t best = 0, index[kColumns];
    const auto look_at = [&](int64_t i) {
      const C value = static_cast<C>(x[i]), so_far = static_cast<C>(x[best]);
      const bool equal = !detail::is_better<largest>(so_far, value);
      if (detail::is_better<largest>(value, so_far) || (equal && i < best)) best = i;
    };
    if (steps > 0) {
      along_columns<C>(x, steps, kColumns, kColumns, index);
      for (int64_t c = 0; c < kColumns; ++c) look_at(index[c] * kColumns + c);
    }
    for (int64_t i = steps * kColumns; i < n; ++i) look_at(i);
    return best;
  }

  template <class C, class T>
  static void along_columns(const T* x, int64_t n, int64_t stride, int64_t columns, int64_t* index) {
    C best[128];
    for (int64_t c = 0; c < columns; ++c) best[c] = static_cast<C>(x[c]), index[c] = 0;
    for (int64_t i = 1; i < n; ++i) {
      const T* row = x + i * stride;
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) {
        const C value = static_cast<C>(row[c]);
        const bool replaces = detail::is_better<largest>(value, best[c]);
        best[c] = replaces ? value : best[c];
        index[c] = replaces ? i : index[c];
      }
    }
  }
};

template <bool largest> Tensor arg_extreme(const Tensor& x, int dim, const char* op) {  // keeps dim
  check<ShapeError>(x.shape()[dim] > 0, "{}: dim {} of {} is empty", op, dim, describe(x));
  return apply<ArgExtreme<largest>>({x.detach()}, dim);
}

template <bool largest> struct Extreme final : Op {  // keeps dim
  int dim;
  explicit Extreme(int dim) : dim(dim) {}
  const char* name() const override { return largest ? "amax" : "amin"; }
  Tensor forward(const Tensors& in) override {
    save(in[0]);
    return save_output(detail::gather_known(in[0], dim, arg_extreme<largest>(in[0], dim, name())));
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor equal = eq(saved(0), saved(1)).to(g.dtype());
    return {equal * (g / sum(equal, {dim}, true))};
  }
};

template <bool largest> Tensor extreme(const Tensor& x, const Shape& dims, bool keepdim) {
  static constexpr const char* name = largest ? "amax" : "amin";
  const std::vector<bool> reduced = detail::reduced_dims(name, x, dims);
  // One dimension stays where it is.
  const bool one = std::count(reduced.begin(), reduced.end(), true) == 1;
  const Tensor y = one ? x : detail::reduced_last(x, reduced);
  const auto dim =
      static_cast<int>(one ? std::find(reduced.begin(), reduced.end(), true) - reduced.begin() : y.dim() - 1);
  check<ShapeError>(y.size(dim) > 0, "{}: dims {} of {} are empty", name, dims, describe(x));
  return apply<Extreme<largest>>({y}, dim).reshape(detail::reduced_shape(x, reduced, keepdim));
}

Tensor without(const Tensor& x, int dim, bool keepdim) { return keepdim ? x : x.squeeze(dim); }

template <bool largest> ValuesIndices extreme_along(const Tensor& x, int64_t dim, bool keepdim) {
  static constexpr const char* name = largest ? "max" : "min";
  const int d = wrap_dim(name, dim, x.dim());
  const Tensor index = arg_extreme<largest>(x, d, name);
  return {without(detail::gather_known(x, d, index), d, keepdim), without(index, d, keepdim)};
}

template <bool largest> Tensor index_along(const char* name, const Tensor& x, int64_t dim, bool keepdim) {
  const int d = wrap_dim(name, dim, x.dim());
  return without(arg_extreme<largest>(x, d, name), d, keepdim);
}

}  // namespace

ValuesIndices max(const Tensor& x, int64_t dim, bool keepdim) { return extreme_along<true>(x, dim, keepdim); }
ValuesIndices min(const Tensor& x, int64_t dim, bool keepdim) {
  return extreme_along<false>(x, dim, keepdim);
}
Tensor amax(const Tensor& x, const Shape& dims, bool keepdim) { return extreme<true>(x, dims, keepdim); }
Tensor amin(const Tensor& x, const Shape& dims, bool keepdim) { return extreme<false>(x, dims, keepdim); }
Tensor max(const Tensor& x) { return amax(x); }
Tensor min(const Tensor& x) { return amin(x); }

Tensor argmax(const Tensor& x, int64_t dim, bool keepdim) {
  return index_along<true>("argmax", x, dim, keepdim);
}
Tensor argmin(const Tensor& x, int64_t dim, bool keepdim) {
  return index_along<false>("argmin", x, dim, keepdim);
}
Tensor argmax(const Tensor& x) { return argmax(x.detach().reshape({-1}), 0); }
Tensor argmin(const Tensor& x) { return argmin(x.detach().reshape({-1}), 0); }

namespace {

// f(x, dims, keepdim).
using OverDims = Tensor (*)(const Tensor&, const Shape&, bool);
RegisterOp register_over_dims(const std::string& name, OverDims f) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto over = bound(f);
    c.sample("all", {c.distinct({3, 4})}, over({}, false));
    c.sample("last", {c.distinct({3, 4})}, over({-1}, false));
    c.sample("outer two", {c.distinct({2, 3, 4})}, over({0, 2}, false));
    c.sample("middle, kept", {c.distinct({2, 3, 4})}, over({1}, true));
    c.sample("number", {c.distinct({})}, over({}, false));
    c.sample("empty result", {c.distinct({0, 3})}, over({1}, false));
    c.fails<ShapeError>("empty", name + ": dims [1] of f32[2,0] are empty", {zeros({2, 0})},
                        over({1}, false));
    c.fails<ShapeError>("twice", name + ": dim 0 appears twice in [0,-2]", {zeros({2, 3})},
                        over({0, -2}, false));
  });
}

// f(x, dim, keepdim): the values, or the index.
using AlongDim = Tensor (*)(const Tensor&, int64_t, bool);
RegisterOp register_along_dim(const std::string& name, bool differentiable, AlongDim f) {
  const auto cases = [=](OpCases& c) {
    const auto along = bound(f);
    c.sample("last", {c.distinct({3, 4})}, along(-1, false));
    c.sample("first, kept", {c.distinct({3, 4})}, along(0, true));
    c.sample("middle", {c.distinct({2, 5, 3})}, along(1, false));
    c.sample("size 1", {c.distinct({3, 1})}, along(1, false));
    c.sample("empty result", {c.distinct({0, 3})}, along(1, false));
    c.fails<ShapeError>("empty", name + ": dim 1 of f32[2,0] is empty", {zeros({2, 0})}, along(1, false));
    c.fails<ShapeError>("dim", name + ": dim 2 is out of range", {zeros({2, 3})}, along(2, false));
  };
  return RegisterOp(name, cases, {.differentiable = differentiable});
}

const RegisterOp amax_op = register_over_dims("amax", amax);
const RegisterOp amin_op = register_over_dims("amin", amin);
const RegisterOp max_op = register_along_dim(
    "max", true, [](const Tensor& x, int64_t dim, bool keepdim) { return max(x, dim, keepdim).values; });
const RegisterOp min_op = register_along_dim(
    "min", true, [](const Tensor& x, int64_t dim, bool keepdim) { return min(x, dim, keepdim).values; });
const RegisterOp argmax_op = register_along_dim("argmax", false, argmax);
const RegisterOp argmin_op = register_along_dim("argmin", false, argmin);

}  // namespace
}  // namespace tandem
