// Softmaxes and norms: every way in which a row is held (cuda/rows.cuh), and the borders between them.
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Widths around one vector, the teams' ends, and what fits no vector.
const std::vector<int64_t> kWidths = {1, 3, 8, 31, 64, 72, 128, 136, 256, 257, 264, 512, 520, 1023, 1025};

Function normalised(int64_t n) {
  return [n](const Tensors& in) { return layer_norm(in[0], {n}, in[1], in[2]); };
}
Tensors norm_inputs(Shape shape, int64_t n, DType dtype, int passes = 1) {
  shape.push_back(n);
  return {normal(shape, 1, dtype, passes), normal({n}, 2, dtype), normal({n}, 3, dtype)};
}

}  // namespace

TEST_CASE("rows: softmaxes of every width") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int64_t n : kWidths) {
      INFO(n, " values of ", std::string(name_of(dtype)));
      const Tensors x{normal({5, n}, n, dtype).mul_(3)};
      agree(
          x, [](const Tensors& in) { return softmax(in[0], -1); }, aligned());
      agree(
          x, [](const Tensors& in) { return log_softmax(in[0], -1); }, aligned());
      agree(
          x, [](const Tensors& in) { return logsumexp(in[0], {-1}); }, aligned());
    }
  }
}

TEST_CASE("rows: long softmaxes, in shared memory and beyond it") {
  for (const int64_t n : {4097, 5000, 16384, 70000}) {
    INFO(n);
    const Tensors x{normal({2, n}, n).mul_(3)};
    agree(
        x, [](const Tensors& in) { return softmax(in[0], -1); }, aligned(2e-5));
    agree(
        x, [](const Tensors& in) { return log_softmax(in[0], -1); }, aligned(2e-5));
    agree(
        x, [](const Tensors& in) { return logsumexp(in[0], {-1}); }, aligned(2e-5));
  }
}

TEST_CASE("rows: -inf, +inf and NaN go where they go on the CPU, in short rows and in long ones") {
  for (const int64_t n : {4, 37, 4096, 4100, 70001}) {
    INFO(n);
    Tensor x = normal({6, n}, n);
    x[0].fill_(-kInf);
    x[1].slice(0, 0, n / 2).fill_(-kInf);
    x[2].select(0, n - 1).fill_(kInf);
    x[3].select(0, n / 3).fill_(std::nan(""));
    x[4].fill_(-1000);
    const Tensor there = x.to(device());
    for (const auto& f : {softmax, log_softmax}) {
      const std::vector<double> expected = f(x, -1).to_vector<double>(), y = f(there, -1).to_vector<double>();
      for (size_t i = 0; i < y.size(); ++i) {
        if (std::isfinite(expected[i]) ? std::abs(y[i] - expected[i]) <= 1e-5 * (1 + std::abs(expected[i]))
                                       : same_bits(scalar(y[i]), scalar(expected[i])) ||
                                             (std::isnan(y[i]) && std::isnan(expected[i])))
          continue;
        FAIL_CHECK("row ", i / n, ", value ", i % n, ": ", y[i], ", expected ", expected[i]);
        break;
      }
    }
    const std::vector<double> expected = logsumexp(x, {-1}).to_vector<double>(),
                              y = logsumexp(there, {-1}).to_vector<double>();
    for (size_t i = 0; i < y.size(); ++i) {
      if (std::isfinite(expected[i])) {
        CHECK(y[i] == doctest::Approx(expected[i]).epsilon(1e-6));
      } else {
        CHECK((y[i] == expected[i] || (std::isnan(y[i]) && std::isnan(expected[i]))));
      }
    }
  }
}

TEST_CASE("rows: layer norm and RMS norm of every width, with and without weights") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const double tolerance = dtype == DType::f32 ? 2e-5 : kUsual;
    for (const int64_t n : kWidths) {
      if (n == 1) continue;  // layer norm of one value is 0 but for rounding
      INFO(n, " values of ", std::string(name_of(dtype)));
      Tensors inputs = norm_inputs({5}, n, dtype);
      agree(inputs, normalised(n), aligned(tolerance));
      agree(
          {inputs[0], inputs[1]}, [](const Tensors& in) { return rms_norm(in[0], in[1]); },
          aligned(tolerance));
    }
    agree({normal({3, 40}, 5, dtype), {}, {}}, normalised(40), aligned(tolerance));
  }
}

TEST_CASE("rows: norms of rows whose squares, or sums, overflow beside others") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const double large = dtype == DType::f64 ? 1e200 : 1e20, largest = dtype == DType::f64 ? 2e307 : 3e37;
    const Tensor scales = from_values(std::vector<double>{large, 1, largest, 1, -large}, {5, 1}).to(dtype);
    const auto scaled = [&](const Tensor& x) { return x * scales.to(x.device()); };
    for (const int64_t n : kWidths) {
      if (n == 1) continue;
      INFO(n, " values of ", std::string(name_of(dtype)));
      const Tensors inputs = norm_inputs({5}, n, dtype);
      agree(
          inputs,
          [&](const Tensors& in) {
            return normalised(n)({scaled(in[0]), in[1], in[2]});
          },
          aligned(dtype == DType::f32 ? 2e-5 : kUsual));
      agree(
          {inputs[0], inputs[1]}, [&](const Tensors& in) { return rms_norm(scaled(in[0]), in[1]); },
          aligned(dtype == DType::f32 ? 2e-5 : kUsual));
      // Infinity makes its row NaN, and no other.
      Tensor x = inputs[0].clone();
      x[2].select(0, n / 2).fill_(kInf);
      for (const Tensor& y : {layer_norm(x.to(device()), {n}), rms_norm(x.to(device()))}) {
        for (int64_t row = 0; row < 5; ++row) CHECK(std::isnan(sum(y.to(kCpu)[row]).item()) == (row == 2));
      }
    }
  }
  agree(
      norm_inputs({2}, 40000, DType::f32),
      [](const Tensors& in) {
        return normalised(40000)({in[0] * 1e20, in[1], in[2]});
      },
      aligned(2e-5));
}

TEST_CASE("rows: norms of many rows and passes, whose weights are summed in chunks") {
  for (const int64_t n : {24, 37, 200, 600, 2052}) {
    const int64_t rows = n < 100 ? 300 : 45;
    INFO(rows, " x ", n);
    agree(norm_inputs({rows}, n, DType::f32, 3), normalised(n), aligned(2e-5));
    agree(norm_inputs({3 * rows}, n, DType::f64), normalised(n), aligned(1e-11));
  }
  agree(norm_inputs({7, 9}, 72, DType::bf16, 2), normalised(72), aligned());
  // More rows than chunks have room for: chunks grow.
  agree(norm_inputs({140000}, 4, DType::f32), normalised(4), aligned(2e-5));
}

TEST_CASE("rows: a bf16 row with f32 weights, and weights that differ from pass to pass") {
  Tensors inputs = norm_inputs({6}, 80, DType::bf16, 2);
  inputs[1] = normal({80}, 7, DType::f32, 2), inputs[2] = normal({80}, 8);
  agree(inputs, normalised(80), aligned());
}

TEST_CASE("rows: norms of rows beyond shared memory") {
  agree(norm_inputs({3}, 40000, DType::f32), normalised(40000), aligned(2e-5));
  agree(norm_inputs({18}, 30001, DType::f32), normalised(30001), aligned(2e-5));
}

TEST_CASE("rows: views that are not aligned to 16 bytes") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto shifted = [](const Tensor& x) { return x.slice(0, 1, x.numel()).reshape({4, 64}); };
    const Tensors x{normal({257}, 1, dtype)};
    agree(
        x, [&](const Tensors& in) { return softmax(shifted(in[0]), -1); }, aligned());
    agree(
        x, [&](const Tensors& in) { return log_softmax(shifted(in[0]), 0); }, aligned());
    agree(
        x, [&](const Tensors& in) { return logsumexp(shifted(in[0]), {-1}); }, aligned());
    agree(
        {x[0], normal({64}, 2, dtype), normal({64}, 3, dtype)},
        [&](const Tensors& in) { return layer_norm(shifted(in[0]), {64}, in[1], in[2]); }, aligned(2e-2));
  }
}

TEST_CASE("rows: gradients have the same bits in every run") {
  const Tensors inputs = norm_inputs({200}, 48, DType::f32, 2);
  Tensors first;
  for (int run = 0; run < 2; ++run) {
    const Tensors there = leaves_on(device(), inputs);
    normalised(48)(there).backward(normal({200, 48}, 9, DType::f32, 2).to(device()));
    for (size_t i = 0; i < there.size(); ++i) {
      if (run == 0) first.push_back(there[i].grad().to(kCpu));
      CHECK(same_bits(there[i].grad().to(kCpu), first[i]));
    }
  }
}
