// Linear and feed_forward on the device against the CPU's, and the calls that they make of the library.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <random>

#include "autograd/device_kernel.h"
#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "ops/linear_kernel.h"
#include "ops/ops.h"
#include "tests/cuda/simulator.h"
#include "tests/device.h"

using namespace tandem;
using namespace tandem::detail;
using testing::device, testing::rounding_of_epilogue, testing::Simulator, testing::simulator_or_message;

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
            const double tolerance = rounding_of_epilogue(activation) * mix.tolerance;
            CHECK(distance(cuda.y, cpu.y) <= tolerance);
            CHECK(distance(cuda.unrecorded, cpu.unrecorded) <= tolerance);
            CHECK(distance(cuda.dx, cpu.dx) <= tolerance);
            CHECK(distance(cuda.dweight, cpu.dweight) <= tolerance);
            if (with_bias) CHECK(distance(cuda.dbias, cpu.dbias) <= tolerance);
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
            const double tolerance = rounding_of_epilogue(activation) * (dtype == DType::f64   ? 1e-14
                                                                         : dtype == DType::f32 ? 2e-6
                                                                                               : 1e-2);
            for (size_t i = 0; i < expected.size(); ++i) CHECK(distance(fused[i], expected[i]) <= tolerance);
          }
}

TEST_CASE("device linear: bias, activation and their gradients are within the library's products") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  // Of cublasLtEpilogue_t; 0 is a product of cuBLAS.
  constexpr int kEpilogues[] = {0, 2, 4, 6, 32, 36, 128 | 6, 8 | 128, 128 | 36, 64 | 128, 512};
  const auto made = [&](auto&& f) {
    std::map<int, int64_t> counts;
    for (const int e : kEpilogues) counts[e] -= sim->products_run(e);
    f();
    backend(device()).synchronize();
    for (const int e : kEpilogues) counts[e] += sim->products_run(e);
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
  constexpr int64_t n = 256;  // for small products the library has no kernel of tensor cores
  const float value = 1 + std::ldexp(1.0f, -20);
  const Tensor x = full({n, n}, value, {.device = device()});
  std::vector<float> ones(n * n);
  for (int64_t i = 0; i < n; ++i) ones[i * n + i] = 1;
  const Tensor identity = from_values(ones, {n, n}).to(device());
  const auto product = [&] { return matmul(x, identity).to(kCpu).to_vector<float>(); };
  CHECK_FALSE(allow_tf32());
  CHECK(product() == std::vector<float>(n * n, value));
  set_allow_tf32(true);
  const std::vector<float> rounded = product();
  set_allow_tf32(false);
  CHECK(rounded == std::vector<float>(n * n, 1));
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

namespace {

// The kernel alone: rows with padding, sums that are added to; against f64 on the host.
template <class T>
void check_sweep(Activation f, int64_t rows, int64_t cols, int64_t padding, bool accumulate) {
  INFO(name_of(dtype_of<T>), ", f ", int(f), ", [", rows, ",", cols, "], padding ", padding, ", accumulate ",
       accumulate);
  std::mt19937 random(13);
  using A = accumulate_t<T>;
  const int64_t stride = cols + padding;
  const Tensor g = noise(random, {rows, stride}, dtype_of<T>), z = noise(random, {rows, stride}, dtype_of<T>);
  const Tensor before = noise(random, {cols}, dtype_of<A>);
  const Tensor dg = g.to(device()), dz = z.to(device()), sums = before.to(device());
  const Tensor out = empty({rows, cols}, {dtype_of<T>, device()});
  device_kernel<LinearSweep<T>>({.activation = f,
                                 .g = dg.device_data<T>(),
                                 .z = dz.device_data<T>(),
                                 .dz = out.device_data<T>(),
                                 .sums = sums.device_data<A>(),
                                 .accumulate = accumulate,
                                 .rows = rows,
                                 .cols = cols,
                                 .row_stride = stride});
  const std::vector<double> gs = g.to_vector<double>(), zs = z.to_vector<double>(),
                            first = before.to_vector<double>();
  const std::vector<double> got = out.to_vector<double>(), summed = sums.to_vector<double>();
  const double unit = dtype_of<T> == DType::f64 ? 1e-15 : 1e-6;
  double worst = 0, worst_sum = 0;
  for (int64_t j = 0; j < cols; ++j) {
    double sum = accumulate ? first[size_t(j)] : 0, size = 1 + std::abs(sum);
    for (int64_t i = 0; i < rows; ++i) {
      const double x = zs[size_t(i * stride + j)];
      const double derivative = f == Activation::relu   ? (x > 0 ? 1 : 0)
                                : f == Activation::none ? 1
                                                        : GeluExact::derivative(x);
      const double value = gs[size_t(i * stride + j)] * derivative;
      const double rounding = dtype_of<T> == DType::bf16 ? 1.0 / 256 : unit;
      const double allowed = rounding * std::abs(value) + unit * std::abs(gs[size_t(i * stride + j)]);
      worst = std::max(worst, std::abs(got[size_t(i * cols + j)] - value) / allowed);
      sum += value, size += std::abs(value);
    }
    worst_sum = std::max(worst_sum, std::abs(summed[size_t(j)] - sum) / (unit * size));
  }
  CHECK(worst <= 1);
  CHECK(worst_sum <= 1);
}

}  // namespace

TEST_CASE("device linear: the backward's sweep, of few and many rows, dense or not") {
  for (const Activation f : {Activation::none, Activation::relu, Activation::gelu})
    for (const int64_t rows : {1, 31, 33, 300})
      for (const int64_t cols : {1, 128, 264})
        for (const int64_t padding : {0, 3, 8})
          for (const bool accumulate : {false, true}) {
            check_sweep<float>(f, rows, cols, padding, accumulate);
            if (rows == 33) check_sweep<bf16>(f, rows, cols, padding, accumulate);
            if (rows == 33) check_sweep<double>(f, rows, cols, padding, accumulate);
          }
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

TEST_CASE("device linear: the same shapes again, with a bias that is less aligned") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  constexpr int kBias = 4;  // CUBLASLT_EPILOGUE_BIAS
  std::mt19937 random(22);
  const Tensor x = noise(random, {5, 20}, DType::f32), w = noise(random, {28, 20}, DType::f32),
               all = noise(random, {28 + 4}, DType::f32), there = all.to(device());
  for (const int64_t first : {0, 4, 0}) {  // the second begins 16 bytes into a block
    INFO("bias from ", first, " on");
    const int64_t before = sim->products_run(kBias);
    const Tensor y = linear(x.to(device()), w.to(device()), there.slice(0, first, first + 28));
    CHECK(sim->products_run(kBias) == before + 1);
    CHECK(distance(y, linear(x, w, all.slice(0, first, first + 28))) < 1e-6);
  }
}
