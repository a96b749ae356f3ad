#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "autograd/dispatch.h"
#include "autograd/parallel.h"
#include "ops/detail/matmul_kernel.h"

using namespace tandem;
using namespace tandem::detail;

namespace {

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

Filled make(std::mt19937& random, DType dtype, Order order, int64_t batch, int64_t rows, int64_t cols,
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

double activate(Epilogue epilogue, double x) {
  switch (epilogue) {
    case Epilogue::none:
      return x;
    case Epilogue::relu:
      return std::max(x, 0.0);
    case Epilogue::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Epilogue::gelu_tanh:
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
  Epilogue epilogue = Epilogue::none;
  bool accumulate = false;
};

// The largest |kernel - definition| over what rounding allows; +inf when memory between elements was touched.
double error_of(std::mt19937& random, const Case& t) {
  Filled a = make(random, t.in, t.a, t.batch, t.m, t.k, t.share_a);
  Filled b = make(random, t.in, t.b, t.batch, t.k, t.n, t.share_b);
  Filled c = make(random, t.out, t.c, t.batch, t.m, t.n, false);
  Filled bias = make(random, t.bias, Order::rows, 1, 1, t.n, false);
  matmul_kernel(a.matrix, b.matrix, c.matrix, t.batch, t.with_bias ? bias.memory.data() : nullptr, t.bias,
                t.epilogue, t.accumulate);
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
constexpr Types kTypes[] = {{DType::f32, DType::f32},
                            {DType::bf16, DType::bf16},
                            {DType::bf16, DType::f32},
                            {DType::f32, DType::bf16},
                            {DType::f64, DType::f64}};
constexpr Order kOrders[] = {Order::rows,           Order::columns, Order::rows_padded,
                             Order::columns_padded, Order::neither, Order::heads};

void check_case(std::mt19937& random, const Case& t) {
  const int orders = int(t.a) * 100 + int(t.b) * 10 + int(t.c), epilogue = int(t.epilogue);
  CAPTURE(name_of(t.in));
  CAPTURE(name_of(t.out));
  CAPTURE(t.batch);
  CAPTURE(t.m);
  CAPTURE(t.k);
  CAPTURE(t.n);
  CAPTURE(orders);
  CAPTURE(epilogue);
  CAPTURE(t.accumulate);
  CHECK(error_of(random, t) <= 1.0);
}

DType bias_of(Types types, bool narrow) {
  return types.in == DType::f64 ? DType::f64 : narrow ? DType::bf16 : DType::f32;
}

}  // namespace

TEST_CASE("matmul_kernel: every order of every operand") {
  std::mt19937 random(1);
  for (const Types types : kTypes)
    for (const Order a : kOrders)
      for (const Order b : kOrders)
        for (const Order c : kOrders)
          for (const int64_t batch : {1, 3}) {
            const bool bias = (int(a) + int(b) + int(c)) % 2 == 0;
            check_case(random, {.in = types.in,
                                .out = types.out,
                                .a = a,
                                .b = b,
                                .c = c,
                                .batch = batch,
                                .m = 17,
                                .k = 19,
                                .n = 23,
                                .with_bias = bias,
                                .bias = bias_of(types, batch == 3)});
          }
}

TEST_CASE("matmul_kernel: sizes, shared operands, epilogues, accumulation") {
  std::mt19937 random(2);
  constexpr int64_t sizes[][3] = {{1, 1, 1},    {1, 7, 5},      {5, 1, 3},     {3, 9, 1},
                                  {4, 4, 4},    {17, 33, 9},    {65, 64, 65},  {1, 300, 70},
                                  {70, 300, 1}, {130, 70, 200}, {97, 260, 129}};
  for (const Types types : kTypes)
    for (const auto& [m, k, n] : sizes)
      for (const int shared : {0, 1, 2, 3})
        for (const Epilogue epilogue : {Epilogue::none, Epilogue::relu, Epilogue::gelu, Epilogue::gelu_tanh})
          for (const bool accumulate : {false, true})
            check_case(random, {.in = types.in,
                                .out = types.out,
                                .b = shared == 2 ? Order::columns : Order::rows,
                                .batch = shared == 0 ? 1 : 2,
                                .m = m,
                                .k = k,
                                .n = n,
                                .share_a = (shared & 2) != 0,
                                .share_b = (shared & 1) != 0,
                                .with_bias = accumulate != (epilogue == Epilogue::none),
                                .bias = bias_of(types, shared == 1),
                                .epilogue = epilogue,
                                .accumulate = accumulate});
}

TEST_CASE(
    "matmul_kernel: a tall batch with one shared right operand, in every layout that can and cannot "
    "collapse") {
  std::mt19937 random(3);
  for (const Types types : kTypes)
    for (const Order a : kOrders)
      for (const Order c : kOrders)
        check_case(random, {.in = types.in,
                            .out = types.out,
                            .a = a,
                            .b = Order::columns,
                            .c = c,
                            .batch = 5,
                            .m = 8,
                            .k = 24,
                            .n = 40,
                            .share_b = true,
                            .with_bias = true,
                            .bias = bias_of(types, false),
                            .epilogue = Epilogue::relu,
                            .accumulate = a == c});
}

TEST_CASE("matmul_kernel: empty sizes give nothing, and act(bias) where only k is empty") {
  std::mt19937 random(4);
  for (const Types types : kTypes)
    for (const bool bias : {false, true})
      for (const bool accumulate : {false, true}) {
        check_case(random, {.in = types.in,
                            .out = types.out,
                            .batch = 2,
                            .m = 3,
                            .k = 0,
                            .n = 40,
                            .with_bias = bias,
                            .bias = bias_of(types, accumulate),
                            .epilogue = Epilogue::gelu,
                            .accumulate = accumulate});
        check_case(random, {.in = types.in,
                            .out = types.out,
                            .batch = 2,
                            .m = 0,
                            .k = 5,
                            .n = 4,
                            .with_bias = bias,
                            .bias = bias_of(types, false),
                            .accumulate = accumulate});
        check_case(random, {.in = types.in, .out = types.out, .batch = 2, .m = 3, .k = 5, .n = 0});
      }
  const MatrixBatch none{nullptr, DType::f32, 3, 3, 3, 1, 9};
  CHECK_NOTHROW(matmul_kernel(none, none, none, 0));
}

TEST_CASE("matmul_kernel: f64 gives the same bits for any number of threads") {
  const int outer = num_threads();
  std::vector<std::vector<std::byte>> results;
  for (const int threads : {1, 2, 3, 5}) {
    set_num_threads(threads);
    std::mt19937 random(5);
    Filled a = make(random, DType::f64, Order::rows, 2, 210, 300, false);
    Filled b = make(random, DType::f64, Order::columns, 2, 300, 150, false);
    Filled c = make(random, DType::f64, Order::rows_padded, 2, 210, 150, false);
    matmul_kernel(a.matrix, b.matrix, c.matrix, 2);
    results.push_back(c.memory);
  }
  set_num_threads(outer);
  for (const auto& result : results) CHECK(result == results.front());
}

TEST_CASE("matmul_kernel: f32 gelu is within 2e-6 of the definition for inputs of any size") {
  // One product per element: x = a * 1, so that the error is the epilogue's alone.
  const int64_t count = 24001;
  std::vector<float> x(static_cast<size_t>(count)), y(static_cast<size_t>(count) * 16), one(16, 1.0f);
  for (int64_t i = 0; i < count; ++i) x[static_cast<size_t>(i)] = -12.0f + 1e-3f * static_cast<float>(i);
  for (const Epilogue epilogue : {Epilogue::gelu, Epilogue::gelu_tanh}) {
    matmul_kernel({x.data(), DType::f32, count, 1, 1, 1, 0}, {one.data(), DType::f32, 1, 16, 16, 1, 0},
                  {y.data(), DType::f32, count, 16, 16, 1, 0}, 1, nullptr, DType::f32, epilogue);
    double worst = 0;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < 16; ++j)
        worst = std::max(worst, std::abs(double{y[static_cast<size_t>(i * 16 + j)]} -
                                         activate(epilogue, double{x[static_cast<size_t>(i)]})));
    CAPTURE(int(epilogue));
    CHECK(worst < 2e-6);
  }
}

TEST_CASE("matmul_kernel: primitives made on one thread run on others, several at once") {
  std::vector<double> errors(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < errors.size(); ++t)
    threads.emplace_back([&errors, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int64_t size = 20; size < 60; ++size)
        errors[t] = std::max(errors[t], error_of(random, {.in = DType::f32,
                                                          .out = DType::f32,
                                                          .a = Order::columns,
                                                          .batch = 1,
                                                          .m = size,
                                                          .k = 50,
                                                          .n = 30}));
    });
  for (auto& thread : threads) thread.join();
  for (const double error : errors) CHECK(error <= 1.0);
}

TEST_CASE("matmul_kernel: errors name the operands") {
  float x[64] = {};
  const auto f32 = [&x](int64_t rows, int64_t cols) {
    return MatrixBatch{x, DType::f32, rows, cols, cols, 1, 0};
  };
  CHECK_THROWS_WITH_AS(matmul_kernel(f32(2, 3), f32(4, 5), f32(2, 5), 1),
                       "matmul: inner dimensions differ: a f32[1,2,3] vs b f32[1,4,5], out f32[1,2,5] "
                       "(a.size(-1)=3, b.size(-2)=4)",
                       ShapeError);
  CHECK_THROWS_AS(matmul_kernel(f32(2, 3), f32(3, 5), f32(2, 4), 1), ShapeError);
  CHECK_THROWS_AS(matmul_kernel(f32(2, 3), f32(3, 5), f32(2, 5), 2), ShapeError);  // one c for a batch of 2
  MatrixBatch other = f32(3, 5);
  other.dtype = DType::bf16;
  CHECK_THROWS_AS(matmul_kernel(f32(2, 3), other, f32(2, 5), 1), DTypeError);
  CHECK_THROWS_AS(matmul_kernel(f32(2, 3), f32(3, 5), f32(2, 5), 1, x, DType::f64), DTypeError);
}
