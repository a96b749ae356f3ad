// Sums of many terms: along any dimension of any layout their error is bounded, whatever their number; and
// statistics of numbers that are all alike keep their digits. All of it on the device that the suite runs on.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "autograd/engine.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "tests/device.h"

using namespace tandem;
using testing::device;

namespace {

constexpr int64_t kMany = (int64_t{1} << 24) + 1;  // ones whose sum in one f32 ends at 2^24
constexpr double kBound = 262 * 0x1p-24;           // of ops/reduce.h

double relative_error(const Tensor& x, double wanted) {
  double worst = 0;
  for (double value : x.to_vector<double>())
    worst = std::max(worst, std::isfinite(value) ? std::abs(value - wanted) / std::abs(wanted) : 1e30);
  return worst;
}

Tensor all_ones(const Shape& shape, DType dtype = DType::f32) { return ones(shape, {dtype, device()}); }
Tensor no_bias(DType dtype = DType::f32) { return zeros({4}, {dtype, device()}); }
// Values near 0.1, which is no multiple of a power of two.
Tensor tenths(const Shape& shape) { return full(shape, 0.1f, {DType::f32, device()}); }

}  // namespace

TEST_CASE("sums: 2^24 + 1 ones, along every dimension of every layout") {
  struct Case {
    const char* name;
    Tensor x;
    Shape dims;
    double wanted;
  };
  const Tensor one = all_ones({1, 1, 1}), bytes = all_ones({kMany, 2});
  const Case cases[] = {
      {"a row", all_ones({kMany}), {}, double(kMany)},
      {"expanded, last", one.expand({1, 2, kMany}), {2}, double(kMany)},
      {"expanded, middle", one.expand({2, kMany, 2}), {1}, double(kMany)},
      {"expanded, first", one.expand({kMany, 2, 1}), {0}, double(kMany)},
      {"expanded, outer two", one.expand({4099, 2, 4099}), {0, 2}, 4099.0 * 4099},
      {"columns", bytes, {0}, double(kMany)},
      {"all", bytes, {}, 2.0 * kMany},
      {"a strided column", bytes.select(1, 1), {}, double(kMany)},
      {"transposed rows", bytes.t(), {1}, double(kMany)},
      {"a strided column, bf16", bytes.to(DType::bf16).select(1, 1), {}, 0x1p24},
      {"expanded, middle, bf16", one.to(DType::bf16).expand({2, kMany, 2}), {1}, 0x1p24},
      {"expanded, middle, f64", one.to(DType::f64).expand({2, kMany, 2}), {1}, double(kMany)},
      {"expanded, middle, u8", one.to(DType::u8).expand({2, kMany, 2}), {1}, double(kMany)},
  };
  const double of_mean = device() == kCpu ? 0 : 0x1p-23;  // of a sum that is rounded before it is divided
  for (const Case& c : cases) {
    CAPTURE(c.name);
    CHECK(relative_error(sum(c.x, c.dims), c.wanted) <= 1e-7);
    if (is_floating(c.x.dtype())) CHECK(relative_error(mean(c.x, c.dims), 1) <= of_mean);
  }
  CHECK(relative_error(var(one.expand({2, kMany, 2}), {1}, 0) + 1.0, 1) == 0);
}

TEST_CASE("sums: many tenths have the error that reduce.h states, along every dimension of 3") {
  const double tenth = 0.1f;
  for (const Shape& shape :
       {Shape{3, 700, 900}, Shape{700, 3, 900}, Shape{700, 900, 3}, Shape{5, 5000, 40}}) {
    for (const Shape& dims :
         {Shape{0}, Shape{1}, Shape{2}, Shape{0, 1}, Shape{0, 2}, Shape{1, 2}, Shape{0, 1, 2}}) {
      CAPTURE(shape);
      CAPTURE(dims);
      double terms = 1;
      for (int64_t d : dims) terms *= static_cast<double>(shape[static_cast<int>(d)]);
      const Tensor x = tenths(shape), turned = tenths({shape[2], shape[0], shape[1]}).permute({1, 2, 0});
      CHECK(relative_error(sum(x, dims), terms * tenth) <= kBound);
      CHECK(relative_error(sum(turned, dims), terms * tenth) <= kBound);
      CHECK(relative_error(sum(tenths({1, 1, 1}).expand(shape), dims), terms * tenth) <= kBound);
      CHECK(relative_error(mean(x, dims), tenth) <= kBound);
    }
  }
  // Values that differ, so that a value that is left out or taken twice shows.
  for (const Shape& shape : {Shape{3, 260, 7, 300}, Shape{300, 5, 513, 2}, Shape{257, 5000}}) {
    SampleMaker make(4, DType::f32, device());
    const Tensor x = make.uniform(shape, 0.5, 1);
    std::vector<int64_t> dims;
    for (int bits = 1; bits < 1 << shape.size(); ++bits) {
      dims.clear();
      for (int d = 0; d < shape.size(); ++d)
        if (bits >> d & 1) dims.push_back(d);
      const Tensor got = sum(x, Shape(dims)).to(DType::f64), wanted = sum(x.to(DType::f64), Shape(dims));
      CHECK(max(abs(got / wanted - 1.0)).item() <= kBound);
    }
  }
}

TEST_CASE("sums: running sums go on past 2^24") {
  for (int64_t inner : {1, 2}) {
    const Tensor y = cumsum(all_ones({1, 1}).expand({kMany + 7, inner}), 0);
    CHECK(relative_error(y.slice(0, kMany + 6, kMany + 7), double(kMany + 7)) == 0);
  }
  const Tensor x = all_ones({1}).expand({kMany + 7}).detach().requires_grad_();
  cumsum(x, 0).backward(all_ones({kMany + 7}));
  CHECK(relative_error(x.grad().slice(0, 0, 1), double(kMany + 7)) == 0);
}

// Every op whose value or gradient sums over many terms of 0.1, in f32 and 16 bits.
TEST_CASE("sums: those inside of ops and of their gradients are bounded as those of reduce.h") {
  constexpr int64_t n = 1 << 19;
  const double tenth = 0.1f, sum_of_tenths = tenth * n;
  const auto gradient_of = [](const Tensor& parameter, const Function& f) {
    const Tensor y = f({parameter});
    return grad(y, {parameter}, tenths({}).to(y.dtype()).expand(y.shape()))[0];
  };
  const auto leaf = [](const Tensor& x) { return x.clone().requires_grad_(); };
  const Tensor many = all_ones({1, 1}).expand({n, 4}), unit = all_ones({4});

  CHECK(relative_error(gradient_of(leaf(no_bias()), [&](auto& in) { return many + in[0]; }), sum_of_tenths) <=
        kBound);
  CHECK(relative_error(gradient_of(leaf(no_bias()),
                                   [&](auto& in) {
                                     return linear(many, all_ones({4, 4}), in[0]);
                                   }),
                       sum_of_tenths) <= kBound);
  const Tensor rows = cat({all_ones({n, 2}), -all_ones({n, 2})}, 1);
  CHECK(relative_error(gradient_of(leaf(no_bias()),
                                   [&](auto& in) { return layer_norm(rows, {4}, all_ones({4}), in[0]); }),
                       sum_of_tenths) <= kBound);
  CHECK(relative_error(abs(gradient_of(leaf(all_ones({4})),
                                       [&](auto& in) { return layer_norm(rows, {4}, in[0], {}, 0.0); })),
                       sum_of_tenths) <= 2 * kBound);
  CHECK(relative_error(gradient_of(leaf(unit), [&](auto& in) { return rms_norm(abs(rows), in[0], 0.0); }),
                       sum_of_tenths) <= 2 * kBound);
  for (const Shape& shape : {Shape{n, 4}, Shape{n / 4, 4, 4}, Shape{1, 4, n}}) {
    const Tensor x = SampleMaker(1, DType::f32, device()).uniform(shape, -1, 1);
    CHECK(relative_error(gradient_of(leaf(no_bias()),
                                     [&](auto& in) { return batch_norm(x, {}, all_ones({4}), in[0], true); }),
                         sum_of_tenths) <= kBound);
    CHECK(relative_error(
              gradient_of(leaf(no_bias()), [&](auto& in) { return group_norm(x, 2, all_ones({4}), in[0]); }),
              sum_of_tenths) <= kBound);
  }
  const Tensor images = all_ones({n / 64, 1, 8, 8});
  CHECK(relative_error(gradient_of(leaf(no_bias()),
                                   [&](auto& in) {
                                     return conv2d(images, all_ones({4, 1, 1, 1}), in[0]);
                                   }),
                       sum_of_tenths) <= kBound);
  for (DType dtype : {DType::f32, DType::bf16}) {
    const double rounding = dtype == DType::bf16 ? 0x1p-8 : kBound,
                 wanted = double(full({}, 0.1).to(dtype).item()) * n;
    const Tensor index = zeros({n}, {DType::i64, device()});
    CHECK(relative_error(gradient_of(leaf(zeros({1, 4}, {dtype, device()})),
                                     [&](auto& in) { return embedding(in[0], index); }),
                         wanted) <= rounding);
    CHECK(relative_error(gradient_of(leaf(zeros({1}, {dtype, device()})),
                                     [&](auto& in) { return gather(in[0], 0, index); }),
                         wanted) <= rounding);
    // The bias of a norm, of 16-bit rows.
    const Tensor narrow = rows.to(dtype);
    CHECK(relative_error(
              gradient_of(leaf(no_bias(dtype)),
                          [&](auto& in) { return layer_norm(narrow, {4}, all_ones({4}, dtype), in[0]); }),
              wanted) <= rounding);
  }
  const int64_t long_row = 1 << 22;
  const Tensor row = all_ones({1}).expand({1, long_row});
  CHECK(relative_error(logsumexp(row, {1}) - 1.0, std::log(double(long_row))) <= 1e-6);
  CHECK(relative_error(softmax(row, 1).slice(1, 0, 1), 1.0 / double(long_row)) <= kBound);
  CHECK(relative_error(rms_norm(tenths({1, 1}).expand({1, long_row}), {}, 0.0).slice(1, 0, 3), 1) <= kBound);
  CHECK(relative_error(mse_loss(row, zeros({1, long_row}, {DType::f32, device()})), 1) == 0);
  CHECK(relative_error(mse_loss(row.to(DType::bf16), zeros({1, long_row}, {DType::bf16, device()}) + 0.9),
                       0.00977) < 0.3);
}

TEST_CASE("sums: statistics of rows whose mean is far from 0, constant, or huge") {
  std::vector<float> values(64);
  for (double offset : {100.0, 1e4}) {
    CAPTURE(offset);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(offset + 0.01 * double(i % 16));
    double mean = 0, squares = 0;
    for (float v : values) mean += v / 64.0;
    for (float v : values) squares += (v - mean) * (v - mean) / 64;
    const double rstd = 1 / std::sqrt(squares + 1e-5);
    const Tensor row = from_values(values, {1, 64}).to(device());
    // Relative to the deviation, half a unit in the last place of the mean may be off.
    const double tolerance = 4e-7 + offset * 0x1p-23 * rstd;
    const Tensor normed[] = {layer_norm(row, {64}), group_norm(row, 1),
                             batch_norm(row.t(), {}, {}, {}, true).t()};
    for (const Tensor& y : normed) {
      const auto got = y.to_vector<double>();
      for (size_t i = 0; i < values.size(); ++i)
        CHECK(std::abs(got[i] - (values[i] - mean) * rstd) <= tolerance);
    }
    CHECK(relative_error(var(row, {1}, 0), squares) <= 1e-6 + std::pow(offset * 0x1p-23 * rstd, 2));
  }
  // 16-bit statistics are those of the 16-bit values, rounded once.
  const Tensor narrow = from_values(values, {1, 64}).to(device()).to(DType::bf16),
               wide = narrow.to(DType::f64);
  CHECK(relative_error(var(narrow + 0.0, {1}) + 1.0, var(wide, {1}).item() + 1) <= 0x1p-8);
  CHECK(relative_error(mean(narrow, {1}), mean(wide, {1}).item()) <= 0x1p-8);
  CHECK(relative_error(layer_norm(full({1, 256}, 1234, {DType::f32, device()}), {256}) + 1.0, 1) <= 1e-3);
  for (float size : {1e19f, 1e20f, 3e37f}) {
    const Tensor x = tensor({size, -size, size, -size}, {1, 4}).to(device()).requires_grad_();
    CHECK(relative_error(abs(layer_norm(x, {4})), 1) <= 1e-6);
    CHECK(relative_error(abs(rms_norm(x)), 1) <= 1e-6);
    CHECK(relative_error(abs(layer_norm(x.to(DType::bf16), {4})), 1) <= 0x1p-8);
    const Tensor gradient = grad(sum(rms_norm(x) * tensor({1, 2, 3, 4}).to(device())), {x})[0];
    CHECK(relative_error(gradient * size + 10.0, 10) < 1);  // dx = (g - xhat mean(g xhat)) / size
  }
  CHECK(relative_error(
            abs(layer_norm(full({1, 4}, 1e200, {DType::f64, device()}) * tensor({1, -1, 1, -1}).to(device()),
                           {4})),
            1) <= 1e-12);
}
