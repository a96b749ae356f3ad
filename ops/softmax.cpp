// Softmax along the last dimension: each row is read from memory once and stays in cache between the maximum,
// the sum and the division. Other dimensions are transposed to the end.
//   y = softmax(x):      dx = y (g - g.y)          y = log_softmax(x): dx = g - e^y sum(g)
// The gradients are ops of their own, fused as well; their vjps are composed, which gives second derivatives.
#include "ops/softmax.h"

#include <cmath>
#include <limits>
#include <utility>

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/loops/reduced_dims.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/rows.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/softmax_kernel.h"
#include "ops/views.h"

namespace tandem {
namespace {

// What exponents are relative to: the largest value, or 0 where all of a row are -inf.
template <class A> A shift_of(A largest) {
  return largest == -std::numeric_limits<A>::infinity() ? A(0) : largest;
}

// The sum over the last dimension, kept.
Tensor row_total(const Tensor& x) { return sum(x, {-1}, true); }

// An op that makes each row of its output, along the last dimension, from the same row of its inputs, which
// have one shape: Formula::row(in..., n, out) does on the CPU, the kernel of F on a device.
template <class Formula, class F> class RowOp : public Op {
 protected:
  // `width` values from each row of the inputs.
  template <class... X> Tensor make_rows(int64_t width, const Tensor& x, const X&... more) const {
    Shape shape = x.shape();
    const int64_t n = std::exchange(shape[x.dim() - 1], width);
    const Tensor out = output(shape, x);
    fill_rows(out, n, dense_rows(x), dense_rows(more)...);
    return out;
  }

 private:
  Tensor dense_rows(const Tensor& x) const {
    return x.passes() == passes() ? dense(x) : detail::dense_passes(x, passes());
  }
  template <class... X> void fill_rows(const Tensor& out, int64_t n, const X&... x) const {
    const int64_t rows = detail::rows_of(out), width = out.shape().back();
    dispatch_floating(name(), out.dtype(), [&]<class T>() {
      const detail::SoftmaxRows<F, T> args{rows, n, out.device_data<T>(), {x.template device_data<T>()...}};
      if (run_on_device(out, args)) return;
      detail::for_each_row(rows, n, [=, y = out.data<T>(), ... in = x.template data<T>()](int64_t row) {
        (detail::prefetch_row(in + (row + 1) * n, n), ...);
        Formula::row((in + row * n)..., n, y + row * width);
      });
    });
  }
};

// y (g - g.y) of inputs g, y.
struct SoftmaxGrad final : RowOp<SoftmaxGrad, detail::SoftmaxGradOfRow> {
  const char* name() const override { return "softmax"; }
  Tensor forward(const Tensors& in) override {
    save(in[0]), save(in[1]);
    return make_rows(in[0].size(-1), in[0], in[1]);
  }
  template <class T> static void row(const T* g, const T* y, int64_t n, T* out) {
    const auto dot = row_dot(g, y, n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = y[i] * (g[i] - dot);
  }
  Tensors vjp(const Tensor& c) override {
    const Tensor g = saved(0), y = saved(1);
    return {needs(0) ? apply<SoftmaxGrad>({c, y}) : Tensor(),
            needs(1) ? c * (g - row_total(g * y)) - g * row_total(c * y) : Tensor()};
  }
};

struct Softmax final : RowOp<Softmax, detail::SoftmaxOfRow> {
  const char* name() const override { return "softmax"; }
  Tensor forward(const Tensors& in) override { return save_output(make_rows(in[0].size(-1), in[0])); }
  template <class T> static void row(const T* x, int64_t n, T* out) {
    using A = accumulate_t<T>;
    const A shift = shift_of(row_max(x, n));
    const auto scale_of = [](A sum) { return sum == 0 ? A(0) : 1 / sum; };
    if constexpr (std::is_same_v<T, A>) {
      const A scale = scale_of(row_sum_exp(x, n, shift, out));
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = out[i] * scale;
    } else {  // rounded once: the exponentials are computed again rather than read back
      const A scale = scale_of(row_sum_exp(x, n, shift));
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = math::exp_nonpositive(static_cast<A>(x[i]) - shift) * scale;
    }
  }
  Tensors vjp(const Tensor& g) override { return {apply<SoftmaxGrad>({g, saved(0)})}; }
};

// g - e^y sum(g) of inputs g, y.
struct LogSoftmaxGrad final : RowOp<LogSoftmaxGrad, detail::LogSoftmaxGradOfRow> {
  const char* name() const override { return "log_softmax"; }
  Tensor forward(const Tensors& in) override {
    save(in[0]), save(in[1]);
    return make_rows(in[0].size(-1), in[0], in[1]);
  }
  template <class T> static void row(const T* g, const T* y, int64_t n, T* out) {
    using A = accumulate_t<T>;
    const A total = row_sum(g, n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = g[i] - math::exp_nonpositive(static_cast<A>(y[i])) * total;
  }
  Tensors vjp(const Tensor& c) override {
    const Tensor p = exp(saved(1));
    return {needs(0) ? c - row_total(c * p) : Tensor(), needs(1) ? -(c * p * row_total(saved(0))) : Tensor()};
  }
};

struct LogSoftmax final : RowOp<LogSoftmax, detail::LogSoftmaxOfRow> {
  const char* name() const override { return "log_softmax"; }
  Tensor forward(const Tensors& in) override { return save_output(make_rows(in[0].size(-1), in[0])); }
  template <class T> static void row(const T* x, int64_t n, T* out) {
    using A = accumulate_t<T>;
    const A shift = shift_of(row_max(x, n)), sum = row_sum_exp(x, n, shift);
    const A log_sum = sum == 0 ? A(0) : math::log(sum);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = (static_cast<A>(x[i]) - shift) - log_sum;
  }
  Tensors vjp(const Tensor& g) override { return {apply<LogSoftmaxGrad>({g, saved(0)})}; }
};

struct LogSumExp final : RowOp<LogSumExp, detail::LogSumExpOfRow> {  // [..., n] to [..., 1]
  const char* name() const override { return "logsumexp"; }
  Tensor forward(const Tensors& in) override { return make_rows(1, save(in[0])); }
  template <class T> static void row(const T* x, int64_t n, T* out) {
    using A = accumulate_t<T>;
    const A largest = row_max(x, n);
    *out = std::isinf(largest) ? largest : math::log(row_sum_exp(x, n, largest)) + largest;
  }
  Tensors vjp(const Tensor& g) override { return {g * softmax(saved(0), -1)}; }
};

template <class O> Tensor along(const char* op, const Tensor& x, int64_t dim) {
  const int d = wrap_dim(op, dim, x.dim());
  return transpose(apply<O>({transpose(x, d, -1)}), d, -1);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return along<Softmax>("softmax", x, dim); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return along<LogSoftmax>("log_softmax", x, dim); }

Tensor logsumexp(const Tensor& x, const Shape& dims, bool keepdim) {
  const std::vector<bool> reduced = detail::reduced_dims("logsumexp", x, dims);
  const Tensor result = apply<LogSumExp>({detail::reduced_last(x, reduced)});
  return reshape(result, detail::reduced_shape(x, reduced, keepdim));
}

namespace {

// Rows with values near 1000 and -1000, whose exponentials are beyond every dtype.
Tensor near_1000(SampleMaker& make) {
  return make.normal({2, 4}) + tensor({1000, 1000, 999, -1000}).to(make.dtype()).to(make.device());
}

RegisterOp register_softmax(const std::string& name, Tensor (*f)(const Tensor&, int64_t)) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto along = bound(f);
    c.sample("last", {c.normal({3, 5})}, along(-1));
    c.sample("middle", {c.normal({2, 3, 4})}, along(1));
    c.sample("first", {c.normal({3, 4})}, along(0));
    c.sample("long row", {c.normal({2, 37})}, along(-1));
    c.sample("one value", {c.normal({4, 1})}, along(-1));
    c.sample("large values", {near_1000(c)}, along(-1));
    c.sample("no rows", {c.normal({0, 3})}, along(-1));
    c.sample("no values", {c.normal({3, 0})}, along(-1));
    c.fails<ShapeError>("dim", name + ": dim 2 is out of range", {zeros({2, 3})}, along(2));
    c.fails<DTypeError>("i64", name + ": expected a floating dtype", {zeros({2}, {DType::i64})}, along(0));
  });
}

const RegisterOp softmax_op = register_softmax("softmax", softmax);
const RegisterOp log_softmax_op = register_softmax("log_softmax", log_softmax);

const RegisterOp logsumexp_op("logsumexp", [](OpCases& c) {
  const auto over = bound(logsumexp);
  c.sample("last", {c.normal({3, 5})}, over({-1}, false));
  c.sample("all", {c.normal({3, 4})}, over({}, false));
  c.sample("two, kept", {c.normal({2, 3, 4})}, over({0, 2}, true));
  c.sample("one value", {c.normal({3, 1})}, over({1}, false));
  c.sample("number", {c.normal({})}, over({}, false));
  c.sample("large values", {near_1000(c)}, over({1}, false));
  c.sample("no rows", {c.normal({0, 3})}, over({-1}, false));
  c.fails<ShapeError>("dim", "logsumexp: dim -3 is out of range", {zeros({2, 3})}, over({-3}, false));
  c.fails<ShapeError>("twice", "logsumexp: dim 1 appears twice in [1,1]", {zeros({2, 3})},
                      over({1, 1}, false));
  c.fails<DTypeError>("bool", "logsumexp: expected a floating dtype", {zeros({2}, {DType::boolean})},
                      over({}, false));
});

}  // namespace
}  // namespace tandem
