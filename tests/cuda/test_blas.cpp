// Matrix products on the device against their definition.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/device.h"
#include "autograd/device_kernel.h"
#include "autograd/scope.h"
#include "tests/cuda/simulator.h"
#include "tests/device.h"
#include "tests/ops/matmul_cases.h"

using namespace tandem;
using namespace tandem::detail;
using testing::device, testing::rounding_of_epilogue, testing::Simulator, testing::simulator_or_message;

namespace {

// The bytes of a block of host memory on the device, for as long as it lives.
struct OnDevice {
  explicit OnDevice(const Filled& x) : bytes(static_cast<int64_t>(x.memory.size())) {
    data = backend(device()).allocate(bytes);
    backend(device()).copy_from_host(data, x.memory.data(), bytes);
  }
  ~OnDevice() { backend(device()).release(data, bytes); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  void fetch(Filled& x) const { backend(device()).copy_to_host(x.memory.data(), data, bytes); }
  MatrixBatch matrix(const Filled& x) const {
    MatrixBatch result = x.matrix;
    result.data = data;
    return result;
  }
  void* data;
  int64_t bytes;
};

// `moved`: the operand of a, b, c, bias whose matrix begins an element later in its memory.
void run_on_device_at(Filled& a, Filled& b, Filled& c, Filled& bias, const Case& t, int moved) {
  const OnDevice da(a), db(b), dc(c), dbias(bias);
  const auto begin = [moved](int i, const OnDevice& memory, const Filled& x) {
    return static_cast<char*>(memory.data) + (i == moved ? size_of(x.matrix.dtype) : 0);
  };
  const auto matrix = [&](int i, const OnDevice& memory, const Filled& x) {
    MatrixBatch result = x.matrix;
    result.data = begin(i, memory, x);
    return result;
  };
  device_kernel<MatmulArgs>({.a = matrix(0, da, a),
                             .b = matrix(1, db, b),
                             .c = matrix(2, dc, c),
                             .batch = t.batch,
                             .bias = t.with_bias ? begin(3, dbias, bias) : nullptr,
                             .bias_dtype = t.bias,
                             .epilogue = t.epilogue,
                             .accumulate = t.accumulate});
  da.fetch(a), db.fetch(b), dc.fetch(c);
}
void on_device(Filled& a, Filled& b, Filled& c, Filled& bias, const Case& t) {
  run_on_device_at(a, b, c, bias, t, -1);
}

void check_case(std::mt19937& random, const Case& t) {
  const int orders = int(t.a) * 100 + int(t.b) * 10 + int(t.c), epilogue = int(t.epilogue);
  INFO("a ", name_of(t.in), ", c ", name_of(t.out), ", ", t.batch, " x [", t.m, ",", t.k, ",", t.n,
       "], orders ", orders, ", bias ", t.with_bias, ", epilogue ", epilogue, ", accumulate ", t.accumulate);
  // In bf16 the bias is rounded, too, and a step before the last may be.
  CHECK(error_of(random, t, on_device, 1.0 / 128) <= rounding_of_epilogue(t.epilogue));
}

}  // namespace

TEST_CASE("device matmul: every order of every operand") {
  std::mt19937 random(1);
  for (const Types types : kTypes)
    for (const Order a : kOrders)
      for (const Order b : kOrders)
        for (const Order c : kOrders) {
          const int sum = int(a) + 2 * int(b) + 3 * int(c);
          check_case(random, {.in = types.in,
                              .out = types.out,
                              .a = a,
                              .b = b,
                              .c = c,
                              .batch = sum % 3 == 0 ? 3 : 1,
                              .m = 7,
                              .k = 5,
                              .n = 8,
                              .with_bias = sum % 2 == 0,
                              .bias = bias_of(types, sum % 5 == 0)});
        }
}

TEST_CASE("device matmul: sizes, shared operands, epilogues, accumulation") {
  std::mt19937 random(2);
  constexpr int64_t sizes[][3] = {{1, 1, 1},   {1, 7, 5},    {5, 1, 3},   {3, 9, 1},
                                  {16, 24, 8}, {65, 64, 65}, {3, 300, 16}};
  for (const Types types : kTypes)
    for (const auto& size : sizes)
      for (const int shared : {0, 1, 2, 3})
        for (const Activation epilogue :
             {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh})
          for (const bool accumulate : {false, true})
            check_case(random, {.in = types.in,
                                .out = types.out,
                                .b = shared == 2 ? Order::columns : Order::rows,
                                .batch = shared == 0 ? 1 : 2,
                                .m = size[0],
                                .k = size[1],
                                .n = size[2],
                                .share_a = (shared & 2) != 0,
                                .share_b = (shared & 1) != 0,
                                .with_bias = accumulate != (epilogue == Activation::none),
                                .bias = bias_of(types, shared == 1),
                                .epilogue = epilogue,
                                .accumulate = accumulate});
}

TEST_CASE("device matmul: shared operands that have to be packed") {
  std::mt19937 random(11);
  for (const Types types : kTypes)
    for (const int shared : {1, 2, 3})
      check_case(random, {.in = types.in,
                          .out = types.out,
                          .a = Order::neither,
                          .b = Order::neither,
                          .batch = 3,
                          .m = 4,
                          .k = 5,
                          .n = 6,
                          .share_a = (shared & 2) != 0,
                          .share_b = (shared & 1) != 0});
}

TEST_CASE("device matmul: the same shapes again, at addresses that are aligned differently") {
  std::mt19937 random(12);
  for (const Types types : kTypes)
    for (const int unaligned : {-1, 0, 1, 2, 3}) {  // of a, b, c, bias: first none
      const Case t{.in = types.in,
                   .out = types.out,
                   .batch = 1,
                   .m = 8,
                   .k = 16,
                   .n = 24,
                   .with_bias = true,
                   .bias = types.out,
                   .epilogue = Activation::relu};
      INFO("a ", name_of(t.in), ", c ", name_of(t.out), ", unaligned operand ", unaligned);
      CHECK(error_of(
                random, t,
                [&](Filled& a, Filled& b, Filled& c, Filled& bias, const Case&) {
                  Filled* const all[] = {&a, &b, &c, &bias};
                  for (int i = 0; i < 4; ++i) {  // moved by an element within its memory
                    if (i != unaligned) continue;
                    const auto bytes = static_cast<size_t>(size_of(all[i]->matrix.dtype));
                    all[i]->memory.insert(all[i]->memory.begin(), bytes, std::byte{0x7b});
                  }
                  run_on_device_at(a, b, c, bias, t, unaligned);
                  if (unaligned < 0) return;
                  Filled& moved = *all[unaligned];
                  moved.memory.erase(moved.memory.begin(),
                                     moved.memory.begin() + size_of(moved.matrix.dtype));
                },
                1.0 / 128) <= 1.0);
    }
}

TEST_CASE("device matmul: empty sizes give nothing, and act(bias) where only k is empty") {
  std::mt19937 random(3);
  for (const Types types : kTypes)
    for (const bool bias : {false, true})
      for (const bool accumulate : {false, true}) {
        check_case(random, {.in = types.in,
                            .out = types.out,
                            .batch = 2,
                            .m = 3,
                            .k = 0,
                            .n = 8,
                            .with_bias = bias,
                            .bias = bias_of(types, accumulate),
                            .epilogue = Activation::gelu,
                            .accumulate = accumulate});
        check_case(random, {.in = types.in, .out = types.out, .batch = 2, .m = 0, .k = 5, .n = 4});
        check_case(random, {.in = types.in, .out = types.out, .batch = 2, .m = 3, .k = 5, .n = 0});
      }
}

namespace {

// What a product leaves besides c, by the definition.
void check_by_products(DType in, DType out, int64_t m, int64_t k, int64_t n, Order order_a, bool with_bias) {
  INFO("a ", name_of(in), ", c ", name_of(out), ", [", m, ",", k, ",", n, "], order of a ", int(order_a),
       ", bias ", with_bias);
  std::mt19937 random(4);
  const double unit = out == DType::bf16 ? 1.0 / 128 : out == DType::f32 ? 1e-6 : 1e-14;
  Filled a = make(random, in, order_a, 1, m, k, false), b = make(random, in, Order::rows, 1, k, n, false);
  Filled c = make(random, out, Order::rows, 1, m, n, false), z = c;
  Filled bias = make(random, out, Order::rows, 1, 1, n, false),
         sums = make(random, out, Order::rows, 1, 1, m, false);
  const OnDevice da(a), db(b), dc(c), dz(z), dbias(bias), dsums(sums);
  for (const Activation epilogue : {Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
    device_kernel<MatmulArgs>({.a = da.matrix(a),
                               .b = db.matrix(b),
                               .c = dc.matrix(c),
                               .bias = with_bias ? dbias.data : nullptr,
                               .bias_dtype = out,
                               .epilogue = epilogue,
                               .preactivation = dz.data});
    dc.fetch(c), dz.fetch(z);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = with_bias ? *bias.at(0, 0, j) : 0, size = 1 + std::abs(sum);
        for (int64_t p = 0; p < k; ++p) {
          sum += *a.at(0, i, p) * *b.at(0, p, j);
          size += std::abs(*a.at(0, i, p) * *b.at(0, p, j));
        }
        CHECK(std::abs(z.read(0, i, j) - sum) <= unit * size);
        CHECK(std::abs(c.read(0, i, j) - activate(epilogue, sum)) <=
              rounding_of_epilogue(epilogue) * unit * size);
      }
  }
  device_kernel<MatmulArgs>(
      {.a = da.matrix(a), .b = db.matrix(b), .c = dc.matrix(c), .row_sums = dsums.data});
  dsums.fetch(sums);
  for (int64_t i = 0; i < m; ++i) {
    double sum = 0, size = 1;
    for (int64_t p = 0; p < k; ++p) sum += *a.at(0, i, p), size += std::abs(*a.at(0, i, p));
    CHECK(std::abs(sums.read(0, 0, i) - sum) <= unit * size);
  }
}

}  // namespace

TEST_CASE("device matmul: the value before the activation, and the sums of a's rows, beside the product") {
  for (const Types types : kTypes)
    for (const Order order : {Order::rows, Order::columns, Order::columns_padded, Order::neither})
      for (const bool bias : {false, true}) {
        check_by_products(types.in, types.out, 5, 6, 16, order, bias);  // of what the library takes
        check_by_products(types.in, types.out, 6, 40, 7, order, bias);  // and not: rows of 7 are not aligned
        check_by_products(types.in, types.out, 3, 0, 8, order, bias);
      }
}

TEST_CASE("device matmul: a failure of the library names the op, the call, its status and the operands") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  std::mt19937 random(10);
  Filled a = make(random, DType::f32, Order::rows, 1, 2, 3, false),
         b = make(random, DType::f32, Order::rows, 1, 3, 4, false);
  Filled c = make(random, DType::f32, Order::rows, 1, 2, 4, false),
         bias = make(random, DType::f32, Order::rows, 1, 1, 4, false);
  const OnDevice da(a), db(b), dc(c), dbias(bias);
  MatmulArgs args{.a = da.matrix(a), .b = db.matrix(b), .c = dc.matrix(c)};
  device_kernel<MatmulArgs>(args);
  sim->break_device();
  const OpScope scope("linear");
  CHECK_THROWS_WITH_AS(
      device_kernel<MatmulArgs>(args),
      "linear: cuda: cublasGemmEx: CUBLAS_STATUS_EXECUTION_FAILED: a f32[1,2,3] vs b f32[1,3,4], "
      "out f32[1,2,4]",
      DeviceError);
  args.bias = dbias.data;
  CHECK_THROWS_WITH_AS(
      device_kernel<MatmulArgs>(args),
      "linear: cuda: cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED: a f32[1,2,3] vs b f32[1,3,4], "
      "out f32[1,2,4]",
      DeviceError);
  sim->reset_reports();
  CHECK_NOTHROW(device_kernel<MatmulArgs>(args));
  args.b.rows = 5;
  CHECK_THROWS_AS(device_kernel<MatmulArgs>(args), ShapeError);
}
