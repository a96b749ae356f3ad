#include "ops/products/linear_parts.h"

#include "autograd/parallel.h"
#include "ops/linear_kernel.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/loop.h"
#include "ops/loops/pointwise_op.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"

namespace tandem::detail {
namespace {

// One row: dz = g f'(z), added to sums where there are any. Flat, so that f' does not make the loop scalar.
template <class F, class T, class A>
[[gnu::noinline, gnu::flatten]] void sweep_row(const T* g, const T* z, T* dz, A* sums, int64_t cols) {
  using C = compute_t<T>;
  if constexpr (std::is_same_v<F, NoActivation>) {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) sums[j] += static_cast<C>(g[j]);
  } else if (sums) {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) {
      const C value = times_derivative(F{}, static_cast<C>(g[j]), static_cast<C>(z[j]));
      dz[j] = value;
      sums[j] += value;
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j)
      dz[j] = times_derivative(F{}, static_cast<C>(g[j]), static_cast<C>(z[j]));
  }
}

// Rows are summed in fixed chunks, in order.
template <class F, class T> void sweep(const LinearSweep<T>& args) {
  using A = accumulate_t<T>;
  A* const db = args.sums;
  const T* const z = args.z ? args.z : args.g;
  const int64_t rows = args.rows, cols = args.cols;
  const int64_t chunk = std::max({int64_t{1}, kGrain / std::max<int64_t>(cols, 1), (rows + 63) / 64});
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const Tensor partial = empty({db ? chunks : 0, cols}, {dtype_of<A>});
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      ColumnSums<A> sums(db ? cols : 0);
      for (int64_t row = c * chunk; row < std::min(rows, (c + 1) * chunk); ++row) {
        T* dz = args.dz ? args.dz + row * cols : nullptr;
        sweep_row<F>(args.g + row * cols, z + row * cols, dz, db ? sums.next_row() : nullptr, cols);
      }
      if (db) sums.write(partial.data<A>() + c * cols);
    }
  });
  if (!db) return;
  parallel_for(cols, 4096, [&](int64_t begin, int64_t end) {
    std::fill(db + begin, db + end, A(0));
    for (int64_t c = 0; c < chunks; ++c) {
      const A* sums = partial.data<A>() + c * cols;
#pragma omp simd
      for (int64_t j = begin; j < end; ++j) db[j] += sums[j];
    }
  });
}

}  // namespace

Tensor activate(const Tensor& z, Activation activation) {
  return with_activation(activation, [&]<class F>() {
    if constexpr (std::is_same_v<F, NoActivation>) {
      return z;
    } else {
      return pointwise<F>(z);
    }
  });
}

void check_floating(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check<DTypeError>(
      is_floating(x.dtype()) && is_floating(weight.dtype()) && (!bias.defined() || is_floating(bias.dtype())),
      "{}: expected floating dtypes (bf16, f32, f64), got x {}, weight {}, bias {}", op, describe(x),
      describe(weight), describe(bias));
}
void check_bias(const char* op, const Tensor& weight, const Tensor& bias) {
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0)},
                    "{}: bias {} does not fit weight {}, expected [{}]", op, describe(bias), describe(weight),
                    weight.size(0));
}

void check_linear(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_floating(op, x, weight, bias);
  check<ShapeError>(weight.dim() == 2, "{}: expected a weight [out, in], got {}", op, describe(weight));
  check<ShapeError>(x.dim() > 0 && x.size(-1) == weight.size(1),
                    "{}: x {} does not fit weight {}, expected x [..., {}]", op, describe(x),
                    describe(weight), weight.size(1));
  check_bias(op, weight, bias);
}

DType linear_dtype(DType x, const Tensor& weight, const Tensor& bias) {
  const DType parameters = bias.defined() ? promote(weight.dtype(), bias.dtype()) : weight.dtype();
  return x == DType::bf16 && parameters == DType::f32 ? DType::bf16 : promote(x, parameters);
}

LinearProduct linear_product(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  const DType dtype = y.dtype();
  LinearProduct product{fold_rows(x.to(dtype)), cached_cast(weight, dtype), {}, {}};
  if (bias.defined()) {  // the CPU takes an f32 bias beside bf16; a device takes the output's dtype
    const bool as_it_is = y.device() == kCpu && dtype != DType::f64;
    product.bias = dense(as_it_is ? bias : cached_cast(bias, dtype));
    product.args.bias = product.bias.device_raw();
    product.args.bias_dtype = product.bias.dtype();
  }
  product.args.a = as_matrix(product.x);
  product.args.b = transposed(as_matrix(product.weight));
  product.args.c = as_matrix(fold_rows(y));
  return product;
}

void linear_sweep(Activation f, const Tensor& g, const Tensor& z, const Tensor& dz, const Tensor& sums) {
  const int64_t cols = g.shape().back(), rows = cols ? g.numel() / cols * g.passes() : 0;
  dispatch_floating("linear", g.dtype(), [&]<class T>() {
    const LinearSweep<T> args{.activation = f,
                              .g = g.device_data<T>(),
                              .z = z.defined() ? z.device_data<T>() : nullptr,
                              .dz = dz.defined() ? dz.device_data<T>() : nullptr,
                              .sums = sums.defined() ? sums.device_data<accumulate_t<T>>() : nullptr,
                              .rows = rows,
                              .cols = cols,
                              .row_stride = cols};
    if (run_on_device(g, args)) return;
    with_activation(f, [&]<class F>() { sweep<F>(args); });
  });
}

Tensor empty_sums(const Tensor& dz) {
  return empty({dz.shape().back()}, {dz.dtype() == DType::bf16 ? DType::f32 : dz.dtype(), dz.device()});
}

LinearGradients linear_gradients(const Tensor& dz, const Tensor& x, DType of_weight, bool needs_weight,
                                 bool needs_bias) {
  LinearGradients result;
  if (needs_bias) result.bias = empty_sums(dz);
  // A device's product sums dz beside dz^T x.
  const bool both = needs_weight && needs_bias && dz.device() != kCpu && result.bias.dtype() == of_weight;
  if (both) {
    result.weight = empty({dz.shape().back(), x.shape().back()}, {of_weight, dz.device()});
    const Tensor left = fold_rows(dz), right = fold_rows(x.to(dz.dtype()));
    matmul_on(result.weight, {.a = transposed(as_matrix(left)),
                              .b = as_matrix(right),
                              .c = as_matrix(result.weight),
                              .row_sums = result.bias.device_raw()});
    return result;
  }
  if (needs_bias) linear_sweep(Activation::none, dense(dz), {}, {}, result.bias);
  if (needs_weight) result.weight = matmul(fold_rows(dz).t(), fold_rows(x.to(dz.dtype())), of_weight);
  return result;
}

}  // namespace tandem::detail
