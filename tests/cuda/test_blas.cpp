// Matrix products on the device: against their definition, linear against the CPU's, fused against in steps.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "autograd/device_kernel.h"
#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/scope.h"
#include "ops/ops.h"
#include "tests/core/matmul_cases.h"
#include "tests/cudasim/cublas_gemm.h"
#include "tests/cudasim/sim.h"
#include "tests/device.h"

using namespace tandem;
using namespace tandem::detail;
using testing::device;

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

void on_device(Filled& a, Filled& b, Filled& c, Filled& bias, const Case& t) {
  const OnDevice da(a), db(b), dc(c), dbias(bias);
  device_kernel<MatmulArgs>({.a = da.matrix(a),
                             .b = db.matrix(b),
                             .c = dc.matrix(c),
                             .batch = t.batch,
                             .bias = t.with_bias ? dbias.data : nullptr,
                             .bias_dtype = t.bias,
                             .epilogue = t.epilogue,
                             .accumulate = t.accumulate});
  da.fetch(a), db.fetch(b), dc.fetch(c);
}

void check_case(std::mt19937& random, const Case& t) {
  const int orders = int(t.a) * 100 + int(t.b) * 10 + int(t.c), epilogue = int(t.epilogue);
  INFO("a ", name_of(t.in), ", c ", name_of(t.out), ", ", t.batch, " x [", t.m, ",", t.k, ",", t.n,
       "], orders ", orders, ", bias ", t.with_bias, ", epilogue ", epilogue, ", accumulate ", t.accumulate);
  // In bf16 the bias is rounded, too, and a step before the last may be.
  CHECK(error_of(random, t, on_device, 1.0 / 128) <= 1.0);
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
        for (const Epilogue epilogue : {Epilogue::none, Epilogue::relu, Epilogue::gelu, Epilogue::gelu_tanh})
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
                                .with_bias = accumulate != (epilogue == Epilogue::none),
                                .bias = bias_of(types, shared == 1),
                                .epilogue = epilogue,
                                .accumulate = accumulate});
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
                            .epilogue = Epilogue::gelu,
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
  for (const Epilogue epilogue : {Epilogue::relu, Epilogue::gelu, Epilogue::gelu_tanh}) {
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
        CHECK(std::abs(c.read(0, i, j) - activate(epilogue, sum)) <= unit * size);
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

namespace {

Tensor noise(std::mt19937& random, const Shape& shape, DType dtype) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& value : values) value = normal(random);
  return from_values(values, shape).to(dtype);
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  REQUIRE(a.passes() == b.passes());
  REQUIRE(a.dtype() == b.dtype());
  const std::vector<double> x = a.to(kCpu).to_vector<double>(), y = b.to_vector<double>();
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) difference += std::pow(x[i] - y[i], 2), size += y[i] * y[i];
  return std::sqrt(difference / size);
}

struct LinearRun {
  Tensor y, unrecorded, dx, dweight, dbias;
};

LinearRun run_linear(Device where, Activation activation, Tensor x, Tensor weight, Tensor bias,
                     const Tensor& cotangent) {
  for (Tensor* t : {&x, &weight, &bias})
    if (t->defined()) *t = t->to(where).detach().requires_grad_();
  LinearRun run;
  {
    const NoGradGuard guard;
    run.unrecorded = linear(x, weight, bias, activation);
  }
  run.y = linear(x, weight, bias, activation);
  run.y.backward(cotangent.to(where));
  run.dx = x.grad(), run.dweight = weight.grad();
  if (bias.defined()) run.dbias = bias.grad();
  return run;
}

}  // namespace

TEST_CASE("device linear: values and gradients are the CPU's, recorded or not, in several passes") {
  struct Mix {
    DType x, parameters;
    double tolerance;
  };
  std::mt19937 random(5);
  for (const Mix mix : {Mix{DType::f32, DType::f32, 1e-6}, Mix{DType::bf16, DType::f32, 1e-2},
                        Mix{DType::bf16, DType::bf16, 1e-2}, Mix{DType::f64, DType::f64, 1e-14}})
    for (const Activation activation :
         {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh})
      for (const int64_t out : {16, 7})
        for (const bool with_bias : {true, false})
          for (const int passes : {1, 2}) {
            INFO("x ", name_of(mix.x), ", parameters ", name_of(mix.parameters), ", activation ",
                 int(activation), ", out ", out, ", bias ", with_bias, ", passes ", passes);
            Tensors xs, gs;
            for (int i = 0; i < passes; ++i) {
              xs.push_back(noise(random, {2, 5, 8}, mix.x));
              gs.push_back(noise(random, {2, 5, out}, mix.x));
            }
            const Tensor x = passes == 1 ? xs[0] : stack_passes(xs),
                         g = passes == 1 ? gs[0] : stack_passes(gs);
            const Tensor weight = noise(random, {out, 8}, mix.parameters);
            // A value of bf16, so that f of the same numbers is compared: a relu at 0 would tell them apart.
            const Tensor bias = with_bias ? noise(random, {out}, DType::bf16).to(mix.parameters) : Tensor();
            const LinearRun cpu = run_linear(kCpu, activation, x, weight, bias, g),
                            cuda = run_linear(device(), activation, x, weight, bias, g);
            CHECK(distance(cuda.y, cpu.y) <= mix.tolerance);
            CHECK(distance(cuda.unrecorded, cpu.unrecorded) <= mix.tolerance);
            CHECK(distance(cuda.dx, cpu.dx) <= mix.tolerance);
            CHECK(distance(cuda.dweight, cpu.dweight) <= mix.tolerance);
            if (with_bias) CHECK(distance(cuda.dbias, cpu.dbias) <= mix.tolerance);
          }
}

TEST_CASE("device feed_forward: values and gradients are those of two linear layers on the CPU") {
  std::mt19937 random(8);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const Activation activation : {Activation::relu, Activation::gelu, Activation::gelu_tanh})
      for (const int64_t hidden : {24, 7})
        for (const int passes : {1, 2})
          for (const bool with_bias : {true, false}) {
            INFO(name_of(dtype), ", activation ", int(activation), ", hidden ", hidden, ", passes ", passes,
                 ", bias ", with_bias);
            const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
            Tensors xs, gs;
            for (int i = 0; i < passes; ++i)
              xs.push_back(noise(random, {3, 5, 8}, dtype)), gs.push_back(noise(random, {3, 5, 6}, dtype));
            const Tensor x = passes == 1 ? xs[0] : stack_passes(xs),
                         g = passes == 1 ? gs[0] : stack_passes(gs);
            // Biases of bf16's values: see above.
            const Tensors parameters{noise(random, {hidden, 8}, wide),
                                     with_bias ? noise(random, {hidden}, DType::bf16).to(wide) : Tensor(),
                                     noise(random, {6, hidden}, wide),
                                     with_bias ? noise(random, {6}, DType::bf16).to(wide) : Tensor()};
            const auto run = [&](Device where, bool composed) {
              Tensors in{x.to(where).detach().requires_grad_()};
              for (const Tensor& p : parameters)
                in.push_back(p.defined() ? p.to(where).detach().requires_grad_() : Tensor());
              const Tensor y = composed ? linear(linear(in[0], in[1], in[2], activation), in[3], in[4])
                                        : feed_forward(in[0], in[1], in[2], in[3], in[4], activation);
              y.backward(g.to(where));
              Tensors result{y};
              for (const Tensor& t : in)
                if (t.defined()) result.push_back(t.grad());
              return result;
            };
            const Tensors expected = run(kCpu, true), fused = run(device(), false);
            const double tolerance = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 2e-6 : 1e-2;
            for (size_t i = 0; i < expected.size(); ++i) CHECK(distance(fused[i], expected[i]) <= tolerance);
          }
}

TEST_CASE("device linear: bias, activation and their gradients are within the library's products") {
  // Of cublasLtEpilogue_t; 0 is a product of cuBLAS.
  constexpr int kEpilogues[] = {0, 2, 4, 6, 32, 36, 128 | 6, 8 | 128, 128 | 36, 64 | 128, 512};
  const auto made = [&](auto&& f) {
    std::map<int, int64_t> counts;
    for (const int e : kEpilogues) counts[e] -= cudasim::products_run(e);
    f();
    backend(device()).synchronize();
    for (const int e : kEpilogues) counts[e] += cudasim::products_run(e);
    std::erase_if(counts, [](const auto& count) { return count.second == 0; });
    return counts;
  };
  using Counts = std::map<int, int64_t>;
  const TensorOptions leaf{.device = device(), .requires_grad = true};
  const Tensor x = full({8, 16}, 0.5, leaf), w1 = full({24, 16}, 0.1, leaf), b1 = full({24}, 0.2, leaf);
  const Tensor w2 = full({16, 24}, 0.1, leaf), b2 = full({16}, 0.2, leaf);
  const Tensor g = ones({8, 24}, {.device = device()}), g2 = ones({8, 16}, {.device = device()});
  for (const auto& [activation, recorded, unrecorded] : {std::tuple{Activation::none, 4, 4},
                                                         {Activation::relu, 6, 6},
                                                         {Activation::gelu, 4, 4},
                                                         {Activation::gelu_tanh, 128 | 36, 36}}) {
    const Activation f = activation;
    INFO("activation ", int(f));
    Tensor y;
    CHECK(made([&] { y = linear(x, w1, b1, f); }) == Counts{{recorded, 1}});
    CHECK(made([&] {
            const NoGradGuard guard;
            linear(x, w1, b1, f);
          }) == Counts{{unrecorded, 1}});
    // dx and dW, whose product sums the bias' gradient where that is not made in the activation's sweep.
    const auto backward = made([&] { y.backward(g); });
    CHECK(backward == (f == Activation::none ? Counts{{0, 1}, {512, 1}} : Counts{{0, 2}}));
  }
  for (const auto& [activation, forward, derivative] :
       {std::tuple{Activation::relu, 128 | 6, 8 | 128}, {Activation::gelu_tanh, 128 | 36, 64 | 128}}) {
    const Activation f = activation;
    INFO("feed_forward, activation ", int(f));
    Tensor y;
    CHECK(made([&] { y = feed_forward(x, w1, b1, w2, b2, f); }) == Counts{{4, 1}, {forward, 1}});
    CHECK(made([&] { y.backward(g2); }) == Counts{{0, 1}, {derivative, 1}, {512, 2}});
  }
}

TEST_CASE("device linear: sums of many rows come out the same in every run") {
  std::mt19937 random(6);
  const Tensor x = noise(random, {700, 4}, DType::f32), weight = noise(random, {40, 4}, DType::f32);
  const Tensor bias = noise(random, {40}, DType::f32), g = noise(random, {700, 40}, DType::f32);
  const LinearRun cpu = run_linear(kCpu, Activation::gelu, x, weight, bias, g);
  const LinearRun first = run_linear(device(), Activation::gelu, x, weight, bias, g);
  const LinearRun again = run_linear(device(), Activation::gelu, x, weight, bias, g);
  CHECK(distance(first.dbias, cpu.dbias) <= 1e-6);
  CHECK(first.dbias.to(kCpu).to_vector<float>() == again.dbias.to(kCpu).to_vector<float>());
  CHECK(first.dweight.to(kCpu).to_vector<float>() == again.dweight.to(kCpu).to_vector<float>());
}

TEST_CASE("device matmul: f32 is multiplied as TF32 only when that is allowed") {
  const Tensor one = full({1, 1}, 1, {.device = device()});
  const float value = 1 + std::ldexp(1.0f, -20);
  const Tensor x = from_values(std::vector<float>{value}, {1, 1}).to(device());
  CHECK_FALSE(allow_tf32());
  CHECK(matmul(x, one).to(kCpu).item() == value);
  set_allow_tf32(true);
  const double rounded = matmul(x, one).to(kCpu).item();
  set_allow_tf32(false);
  CHECK(rounded == 1);
}

TEST_CASE("device matmul: broadcast batches, and second derivatives, are the CPU's") {
  std::mt19937 random(7);
  const Tensor a = noise(random, {2, 1, 3, 4}, DType::f64), b = noise(random, {3, 4, 2}, DType::f64);
  const auto run = [&](Device where) {
    const Tensor x = a.to(where).detach().requires_grad_(), y = b.to(where).detach().requires_grad_();
    const Tensor product = matmul(x, y);
    const Tensors first = grad(product, {x, y}, product.detach(), {.create_graph = true});
    return std::pair{product, grad(first[0], {y}, first[0].detach())[0]};
  };
  const auto cpu = run(kCpu), cuda = run(device());
  CHECK(distance(cuda.first, cpu.first) <= 1e-14);
  CHECK(distance(cuda.second, cpu.second) <= 1e-14);
}

TEST_CASE("device linear: a recording multiplies what its inputs hold when it is replayed") {
  std::mt19937 random(9);
  const Tensor x = noise(random, {9, 8}, DType::f32), other = noise(random, {9, 8}, DType::f32);
  const Tensor weight = noise(random, {16, 8}, DType::f32), bias = noise(random, {16}, DType::f32);
  const Tensor there = x.to(device()).clone();
  const Tensor w = weight.to(device()).detach().requires_grad_(),
               b = bias.to(device()).detach().requires_grad_();
  const auto step = [&](const Tensor& at) {
    const Tensor y = linear(at, w, b, Activation::gelu_tanh);
    Tensors result = grad(y, {w, b}, y.detach());
    result.insert(result.begin(), y.detach());
    return result;
  };
  step(there);  // what is made once is made before
  Backend& backend = tandem::backend(device());
  backend.begin_recording();
  const Tensors recorded = step(there);
  const auto recording = backend.end_recording();
  const NoGradGuard guard;
  for (const Tensor& values : {x, other}) {
    there.copy_(values.to(device()));
    recording->replay();
    const GradMode on(true);
    const Tensors expected = step(values.to(device()));
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(recorded[i].to(kCpu).to_vector<float>() == expected[i].to(kCpu).to_vector<float>());
  }
}

TEST_CASE("device matmul: a failure of the library names the op, the call, its status and the operands") {
  std::mt19937 random(10);
  Filled a = make(random, DType::f32, Order::rows, 1, 2, 3, false),
         b = make(random, DType::f32, Order::rows, 1, 3, 4, false);
  Filled c = make(random, DType::f32, Order::rows, 1, 2, 4, false),
         bias = make(random, DType::f32, Order::rows, 1, 1, 4, false);
  const OnDevice da(a), db(b), dc(c), dbias(bias);
  MatmulArgs args{.a = da.matrix(a), .b = db.matrix(b), .c = dc.matrix(c)};
  device_kernel<MatmulArgs>(args);
  const bool print = std::exchange(cudasim::options().print, false);
  cudasim::report("test", "the device fails from now on");
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
  cudasim::reset_reports();
  cudasim::options().print = print;
  CHECK_NOTHROW(device_kernel<MatmulArgs>(args));
  args.b.rows = 5;
  CHECK_THROWS_AS(device_kernel<MatmulArgs>(args), ShapeError);
}
