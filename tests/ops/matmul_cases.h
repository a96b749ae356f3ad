// Products of matrices in every layout against their definition in f64, for whatever runs them.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "ops/products/matmul_args.h"

namespace tandem::detail {

// A batch of matrices in its own memory, filled with noise; every gap between elements holds a marker.
struct Filled {
  std::vector<double> value;  // what element [i, row, col] holds
  std::vector<std::byte> memory, before;
  MatrixBatch matrix;
  int64_t batch;

  double* at(int64_t i, int64_t row, int64_t col) {
    const int64_t count = matrix.batch_stride == 0 ? 0 : i;
    return &value[static_cast<size_t>((count * matrix.rows + row) * matrix.cols + col)];
  }
  int64_t offset(int64_t i, int64_t row, int64_t col) const {
    return i * matrix.batch_stride + row * matrix.row_stride + col * matrix.col_stride;
  }
  double read(int64_t i, int64_t row, int64_t col) const {
    const auto at = static_cast<size_t>(offset(i, row, col));
    if (matrix.dtype == DType::f64) return reinterpret_cast<const double*>(memory.data())[at];
    if (matrix.dtype == DType::f32) return reinterpret_cast<const float*>(memory.data())[at];
    return reinterpret_cast<const bf16*>(memory.data())[at];
  }
};

enum class Order { rows, columns, rows_padded, columns_padded, neither, heads };

inline Filled make(std::mt19937& random, DType dtype, Order order, int64_t batch, int64_t rows, int64_t cols,
                   bool shared) {
  Filled out;
  out.batch = shared ? 1 : batch;
  int64_t row_stride = 0, col_stride = 0, batch_stride = 0;
  switch (order) {
    case Order::rows:
      row_stride = cols, col_stride = 1, batch_stride = rows * cols;
      break;
    case Order::columns:
      row_stride = 1, col_stride = rows, batch_stride = rows * cols;
      break;
    case Order::rows_padded:
      row_stride = cols + 3, col_stride = 1, batch_stride = rows * row_stride;
      break;
    case Order::columns_padded:
      row_stride = 1, col_stride = rows + 5, batch_stride = cols * col_stride + 7;
      break;
    case Order::neither:
      col_stride = 2, row_stride = 2 * cols + 1, batch_stride = rows * row_stride;
      break;
    case Order::heads:
      row_stride = cols * batch, col_stride = 1, batch_stride = cols;
      break;  // [row, batch, col]
  }
  if (shared) batch_stride = 0;
  const int64_t length = 1 + std::max<int64_t>(0, rows - 1) * row_stride +
                         std::max<int64_t>(0, cols - 1) * col_stride + (out.batch - 1) * batch_stride;
  out.memory.assign(static_cast<size_t>(length * size_of(dtype) + 64), std::byte{0x7b});
  out.value.resize(static_cast<size_t>(out.batch * rows * cols));
  out.matrix = {out.memory.data(), dtype, rows, cols, row_stride, col_stride, batch_stride};
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < out.batch; ++i)
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < cols; ++col) {
        const double x = normal(random);
        const auto at = static_cast<size_t>(out.offset(i, row, col));
        if (dtype == DType::f64) reinterpret_cast<double*>(out.memory.data())[at] = x;
        if (dtype == DType::f32) reinterpret_cast<float*>(out.memory.data())[at] = static_cast<float>(x);
        if (dtype == DType::bf16)
          reinterpret_cast<bf16*>(out.memory.data())[at] = bf16(static_cast<float>(x));
        *out.at(i, row, col) = out.read(i, row, col);
      }
  out.before = out.memory;
  return out;
}

inline double activate(Activation epilogue, double x) {
  switch (epilogue) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

struct Case {
  DType in, out;
  Order a = Order::rows, b = Order::rows, c = Order::rows;
  int64_t batch, m, k, n;
  bool share_a = false, share_b = false, with_bias = false;
  DType bias = DType::f32;
  Activation epilogue = Activation::none;
  bool accumulate = false;
};

using Run = std::function<void(Filled& a, Filled& b, Filled& c, Filled& bias, const Case&)>;

// The largest |kernel - definition| over what rounding allows; +inf when memory between elements was touched.
// `narrow`: what rounding to bf16 on the way to a bf16 result may add, relative to the sum's terms.
// `run` is given the operands and what to do with them, and returns when c's memory holds the result.
inline double error_of(std::mt19937& random, const Case& t, const Run& run, double narrow = 0) {
  Filled a = make(random, t.in, t.a, t.batch, t.m, t.k, t.share_a);
  Filled b = make(random, t.in, t.b, t.batch, t.k, t.n, t.share_b);
  Filled c = make(random, t.out, t.c, t.batch, t.m, t.n, false);
  Filled bias = make(random, t.bias, Order::rows, 1, 1, t.n, false);
  run(a, b, c, bias, t);
  const double unit = t.out == DType::f64 ? 1e-15 : 4e-7;
  double worst = 0;
  for (int64_t i = 0; i < t.batch; ++i)
    for (int64_t row = 0; row < t.m; ++row)
      for (int64_t col = 0; col < t.n; ++col) {
        double sum = t.with_bias ? *bias.at(0, 0, col) : 0.0, size = std::abs(sum);
        for (int64_t p = 0; p < t.k; ++p) {
          const double product = *a.at(i, row, p) * *b.at(i, p, col);
          sum += product;
          size += std::abs(product);
        }
        double expected = activate(t.epilogue, sum);
        if (t.accumulate) expected += *c.at(i, row, col);
        double allowed = unit * (size + std::abs(expected) + 2);
        if (t.out == DType::bf16) allowed += narrow * size;
        if (t.out == DType::bf16)
          allowed += std::abs(expected) / 128 + (t.accumulate ? std::abs(sum) / 128 : 0.0);
        worst = std::max(worst, std::abs(c.read(i, row, col) - expected) / allowed);
        std::memset(c.memory.data() + c.offset(i, row, col) * size_of(t.out), 0,
                    static_cast<size_t>(size_of(t.out)));
        std::memset(c.before.data() + c.offset(i, row, col) * size_of(t.out), 0,
                    static_cast<size_t>(size_of(t.out)));
      }
  return c.memory == c.before && a.memory == a.before && b.memory == b.before ? worst : INFINITY;
}

struct Types {
  DType in, out;
};
inline constexpr Types kTypes[] = {{DType::f32, DType::f32},
                                   {DType::bf16, DType::bf16},
                                   {DType::bf16, DType::f32},
                                   {DType::f32, DType::bf16},
                                   {DType::f64, DType::f64}};
inline constexpr Order kOrders[] = {Order::rows,           Order::columns, Order::rows_padded,
                                    Order::columns_padded, Order::neither, Order::heads};

inline DType bias_of(Types types, bool narrow) {
  return types.in == DType::f64 ? DType::f64 : narrow ? DType::bf16 : DType::f32;
}

}  // namespace tandem::detail
