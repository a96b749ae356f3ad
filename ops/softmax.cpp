// Softmax along the last dimension: one sweep over memory per row, which stays in cache between the maximum,
// the sum and the division. Other dimensions are transposed to the end.
//   y = softmax(x):      dx = y (g - g.y)          y = log_softmax(x): dx = g - e^y sum(g)
// The gradients are ops of their own, fused as well; their vjps are composed, which gives second derivatives.
#include "ops/softmax.h"

#include <cmath>

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/rows.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/softmax_kernel.h"
#include "ops/views.h"

namespace tandem {
namespace {

// The sum over the last dimension, kept.
Tensor row_total(const Tensor& x) { return sum(x, {-1}, true); }

// Runs the device's kernel on the last dimension of the inputs, which are dense; false on the CPU.
template <class F, class T>
bool on_device(const Tensor& out, const Tensor& a, const Tensor& b = {}) {
  if (out.device() == kCpu) return false;
  return run_on_device(
      out, detail::SoftmaxRows<F, T>{detail::rows_of(a),
                                     a.shape().back(),
                                     out.device_data<T>(),
                                     {a.device_data<T>(), b.defined() ? b.device_data<T>() : nullptr}});
}

// y (g - g.y) of inputs g, y.
struct SoftmaxGrad final : Op {
  const char* name() const override { return "softmax"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = detail::dense_passes(in[0], passes()), y = detail::dense_passes(in[1], passes());
    const Tensor dx = output(in[1].shape(), in[1]);
    const int64_t n = in[1].shape().back();
    dispatch_floating(name(), y.dtype(), [&]<class T>() {
      if (on_device<detail::SoftmaxSlope, T>(dx, g, y)) return;
      const T *gs = g.data<T>(), *ys = y.data<T>();
      T* target = dx.data<T>();
      detail::for_each_row(detail::rows_of(dx), n, [=](int64_t row) {
        const T *gr = gs + row * n, *yr = ys + row * n;
        T* out = target + row * n;
        const auto dot = row_dot(gr, yr, n);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) out[i] = yr[i] * (gr[i] - dot);
      });
    });
    save(in[0]), save(in[1]);
    return dx;
  }
  Tensors vjp(const Tensor& c) override {
    const Tensor g = saved(0), y = saved(1);
    return {needs(0) ? apply<SoftmaxGrad>({c, y}) : Tensor(),
            needs(1) ? c * (g - row_total(g * y)) - g * row_total(c * y) : Tensor()};
  }
};

struct Softmax final : Op {
  const char* name() const override { return "softmax"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), y = output(x.shape(), x);
    const int64_t n = x.shape().back();
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      if (on_device<detail::SoftmaxOfRow, T>(y, x)) return;
      using A = accumulate_t<T>;
      const T* source = x.data<T>();
      T* target = y.data<T>();
      detail::for_each_row(detail::rows_of(x), n, [=](int64_t row) {
        const T* xr = source + row * n;
        T* out = target + row * n;
        const A shift = row_max(xr, n);
        if constexpr (std::is_same_v<T, A>) {
          const A scale = 1 / row_sum_exp(xr, n, shift, out);
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) out[i] = out[i] * scale;
        } else {  // rounded once: the exponentials are computed again rather than read back
          const A scale = 1 / row_sum_exp(xr, n, shift);
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) out[i] = math::exp(static_cast<A>(xr[i]) - shift) * scale;
        }
      });
    });
    return save_output(y);
  }
  Tensors vjp(const Tensor& g) override { return {apply<SoftmaxGrad>({g, saved(0)})}; }
};

// g - e^y sum(g) of inputs g, y.
struct LogSoftmaxGrad final : Op {
  const char* name() const override { return "log_softmax"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = detail::dense_passes(in[0], passes()), y = detail::dense_passes(in[1], passes());
    const Tensor dx = output(in[1].shape(), in[1]);
    const int64_t n = in[1].shape().back();
    dispatch_floating(name(), y.dtype(), [&]<class T>() {
      if (on_device<detail::LogSoftmaxSlope, T>(dx, g, y)) return;
      using A = accumulate_t<T>;
      const T *gs = g.data<T>(), *ys = y.data<T>();
      T* target = dx.data<T>();
      detail::for_each_row(detail::rows_of(dx), n, [=](int64_t row) {
        const T *gr = gs + row * n, *yr = ys + row * n;
        T* out = target + row * n;
        const A total = row_sum(gr, n);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) out[i] = gr[i] - math::exp(static_cast<A>(yr[i])) * total;
      });
    });
    save(in[0]), save(in[1]);
    return dx;
  }
  Tensors vjp(const Tensor& c) override {
    const Tensor p = exp(saved(1));
    return {needs(0) ? c - row_total(c * p) : Tensor(), needs(1) ? -(c * p * row_total(saved(0))) : Tensor()};
  }
};

struct LogSoftmax final : Op {
  const char* name() const override { return "log_softmax"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), y = output(x.shape(), x);
    const int64_t n = x.shape().back();
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      if (on_device<detail::LogSoftmaxOfRow, T>(y, x)) return;
      using A = accumulate_t<T>;
      const T* source = x.data<T>();
      T* target = y.data<T>();
      detail::for_each_row(detail::rows_of(x), n, [=](int64_t row) {
        const T* xr = source + row * n;
        T* out = target + row * n;
        const A shift = row_max(xr, n), log_sum = math::log(row_sum_exp(xr, n, shift));
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) out[i] = (static_cast<A>(xr[i]) - shift) - log_sum;
      });
    });
    return save_output(y);
  }
  Tensors vjp(const Tensor& g) override { return {apply<LogSoftmaxGrad>({g, saved(0)})}; }
};

// [..., n] to [..., 1]
struct LogSumExp final : Op {
  const char* name() const override { return "logsumexp"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    const int64_t n = x.shape().back();
    Shape shape = x.shape();
    shape[x.dim() - 1] = 1;
    const Tensor y = output(shape, x);
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      if (on_device<detail::LogSumExpOfRow, T>(y, x)) return;
      using A = accumulate_t<T>;
      const T* source = x.data<T>();
      T* target = y.data<T>();
      detail::for_each_row(detail::rows_of(x), n, [=](int64_t row) {
        const T* xr = source + row * n;
        const A largest = row_max(xr, n), shift = std::isinf(largest) ? A(0) : largest;
        target[row] = math::log(row_sum_exp(xr, n, shift)) + shift;
      });
    });
    save(in[0]);
    return y;
  }
  Tensors vjp(const Tensor& g) override { return {g * softmax(saved(0), -1)}; }
};

template <class O>
Tensor along(const char* op, const Tensor& x, int64_t dim) {
  const int d = wrap_dim(op, dim, x.dim());
  return transpose(apply<O>({transpose(x, d, -1)}), d, -1);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return along<Softmax>("softmax", x, dim); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return along<LogSoftmax>("log_softmax", x, dim); }

Tensor logsumexp(const Tensor& x, const Shape& dims, bool keepdim) {
  bool reduced[kMaxDims] = {};
  for (int64_t d : dims) {
    const int i = wrap_dim("logsumexp", d, x.dim());
    check<ShapeError>(!reduced[i], "logsumexp: dim {} appears twice in {}", d, dims);
    reduced[i] = true;
  }
  // The dimensions that stay, then one of all the others.
  Shape order, rows, shape;
  int64_t n = 1;
  for (int i = 0; i < x.dim(); ++i) {
    const bool gone = dims.empty() || reduced[i];
    if (!gone) order.push_back(i), rows.push_back(x.shape()[i]);
    if (gone) n *= x.shape()[i];
    if (!gone || keepdim) shape.push_back(gone ? 1 : x.shape()[i]);
  }
  for (int i = 0; i < x.dim(); ++i) {
    if (dims.empty() || reduced[i]) order.push_back(i);
  }
  rows.push_back(n);
  return reshape(apply<LogSumExp>({reshape(permute(x, order), rows)}), shape);
}

namespace {

// Rows with values near 1000 and -1000, whose exponentials are beyond every dtype.
Tensor near_1000(SampleMaker& make) {
  return make.normal({2, 4}) + tensor({1000, 1000, 999, -1000}).to(make.dtype()).to(make.device());
}

RegisterOp register_softmax(const std::string& name, Tensor (*f)(const Tensor&, int64_t)) {
  return RegisterOp(name, [=](OpCases& c) {
    const auto along = [f](int64_t dim) { return [=](const Tensors& in) { return f(in[0], dim); }; };
    c.sample("last", {c.normal({3, 5})}, along(-1));
    c.sample("middle", {c.normal({2, 3, 4})}, along(1));
    c.sample("first", {c.normal({3, 4})}, along(0));
    c.sample("long row", {c.normal({2, 37})}, along(-1));
    c.sample("one value", {c.normal({4, 1})}, along(-1));
    c.sample("large values", {near_1000(c)}, along(-1));
    c.sample("no rows", {c.normal({0, 3})}, along(-1));
    c.sample("no values", {c.normal({3, 0})}, along(-1));
    c.fails<ShapeError>("dim", name + ": dim 2 is out of range", [f] { f(zeros({2, 3}), 2); });
    c.fails<DTypeError>("i64", name + ": expected a floating dtype", [f] { f(zeros({2}, {DType::i64}), 0); });
  });
}

const RegisterOp softmax_op = register_softmax("softmax", softmax);
const RegisterOp log_softmax_op = register_softmax("log_softmax", log_softmax);

const RegisterOp logsumexp_op("logsumexp", [](OpCases& c) {
  const auto over = [](const Shape& dims, bool keepdim) {
    return [=](const Tensors& in) { return logsumexp(in[0], dims, keepdim); };
  };
  c.sample("last", {c.normal({3, 5})}, over({-1}, false));
  c.sample("all", {c.normal({3, 4})}, over({}, false));
  c.sample("two, kept", {c.normal({2, 3, 4})}, over({0, 2}, true));
  c.sample("one value", {c.normal({3, 1})}, over({1}, false));
  c.sample("number", {c.normal({})}, over({}, false));
  c.sample("large values", {near_1000(c)}, over({1}, false));
  c.sample("no rows", {c.normal({0, 3})}, over({-1}, false));
  c.fails<ShapeError>("dim", "logsumexp: dim -3 is out of range", [] { logsumexp(zeros({2, 3}), {-3}); });
  c.fails<ShapeError>("twice", "logsumexp: dim 1 appears twice in [1,1]", [] {
    logsumexp(zeros({2, 3}), {1, 1});
  });
  c.fails<DTypeError>("bool", "logsumexp: expected a floating dtype",
                      [] { logsumexp(zeros({2}, {DType::boolean})); });
});

}  // namespace
}  // namespace tandem
