#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "autograd/dispatch.h"
#include "autograd/parallel.h"
#include "ops/products/matmul_kernel.h"
#include "tests/ops/matmul_cases.h"

using namespace tandem;
using namespace tandem::detail;

namespace {

void on_cpu(Filled& a, Filled& b, Filled& c, Filled& bias, const Case& t) {
  matmul_kernel(a.matrix, b.matrix, c.matrix, t.batch, t.with_bias ? bias.memory.data() : nullptr, t.bias,
                t.epilogue, t.accumulate);
}

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
  CHECK(error_of(random, t, on_cpu) <= 1.0);
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
        for (const Activation epilogue :
             {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh})
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
                                .with_bias = accumulate != (epilogue == Activation::none),
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
                            .epilogue = Activation::relu,
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
                            .epilogue = Activation::gelu,
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
  for (const Activation epilogue : {Activation::gelu, Activation::gelu_tanh}) {
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
        errors[t] = std::max(errors[t], error_of(random,
                                                 {.in = DType::f32,
                                                  .out = DType::f32,
                                                  .a = Order::columns,
                                                  .batch = 1,
                                                  .m = size,
                                                  .k = 50,
                                                  .n = 30},
                                                 on_cpu));
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
