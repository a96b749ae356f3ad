// Reductions of sizes around the borders of vectors, warps, blocks and parts, in every layout and dtype.
#include <doctest/doctest.h>

#include <limits>

#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kAll[] = {DType::boolean, DType::u8,  DType::i32, DType::i64,
                          DType::bf16,    DType::f32, DType::f64};

double tolerance_of(DType dtype) {
  return !is_floating(dtype) ? 0 : dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 1e-2;
}

// Sums of values around 1, which do not cancel.
Tensor summands(const Shape& shape, DType dtype, uint64_t seed) {
  const Tensor x = random_values(shape, dtype, seed);
  return is_floating(dtype) ? (x * 0.3 + 1.0).detach() : x;
}

void check_sum(const Tensor& x, const Shape& dims) {
  INFO("sum of ", std::string(describe(x)), " over ", to_string(dims));
  const Comparison comparison{tolerance_of(x.dtype()), 0, true};
  agree(
      {x}, [dims](const Tensors& in) { return sum(in[0], dims); }, comparison);
}

}  // namespace

TEST_CASE("device: sums of rows and columns of every dtype") {
  for (const DType dtype : kAll) {
    for (const Shape& shape : {Shape{5, 7}, Shape{3, 64}, Shape{33, 8}, Shape{2, 2048}}) {
      check_sum(summands(shape, dtype, 3), {0});
      check_sum(summands(shape, dtype, 3), {1});
      check_sum(summands(shape, dtype, 3), {});
    }
  }
}

TEST_CASE("device: sums of rows of every length around the borders") {
  for (const int64_t n : {1, 4, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 2047, 2048, 2049, 4100})
    check_sum(summands({3, n}, DType::f32, n), {1});
  for (const int64_t rows : {1, 7, 8, 9, 31, 33, 300}) check_sum(summands({rows, 12}, DType::f32, rows), {1});
}

TEST_CASE("device: sums of columns, few and many") {
  for (const int64_t columns : {1, 2, 3, 4, 5, 31, 128, 129, 260, 1025})
    for (const int64_t rows : {1, 2, 3, 7, 8, 9, 70})
      check_sum(summands({rows, columns}, DType::f32, rows), {0});
}

TEST_CASE("device: few sums of many terms are cut into parts") {
  check_sum(summands({9000, 16}, DType::bf16, 1), {0});
  check_sum(summands({2, 9000}, DType::bf16, 1), {1});
  check_sum(summands({40000}, DType::f32, 1), {});
  check_sum(summands({40001}, DType::bf16, 1), {});
  check_sum(summands({9000, 3}, DType::f32, 2), {0});
  check_sum(summands({5000, 8}, DType::f64, 3), {0});
  check_sum(summands({3, 9001}, DType::f32, 4), {1});
  check_sum(summands({70, 2, 130}, DType::f32, 5), {0, 2});
}

TEST_CASE("device: sums of strided, transposed and expanded tensors, over several dims and over passes") {
  const Tensor x = summands({6, 5, 8, 4}, DType::f32, 6);
  for (const Shape& dims :
       {Shape{0}, Shape{1}, Shape{2}, Shape{3}, Shape{0, 2}, Shape{1, 3}, Shape{0, 1, 3}}) {
    INFO("over ", to_string(dims));
    const Comparison c{1e-5, 0, true}, rounded{1e-5, 1e-5, true};
    agree(
        {x},
        [=](const Tensors& in) {
          return sum(in[0].permute({2, 0, 3, 1}), dims);
        },
        c);
    agree(
        {x}, [=](const Tensors& in) { return sum(in[0].slice(3, 0, 4, 2), dims); }, c);
    agree(
        {x}, [=](const Tensors& in) { return sum(in[0].slice(0, 1, 6).slice(2, 3, 8), dims); }, c);
    agree(
        {x},
        [=](const Tensors& in) {
          return sum(flip(in[0], {3, 1}), dims);
        },
        c);
    agree({summands({5, 1, 4}, DType::f32, 7)},
          [=](const Tensors& in) {
            return sum(in[0].expand({3, 5, 8, 4}), dims);
          },
          {1e-5, 1e-5, true});
    agree(
        {several_passes(x, 3, 9)},
        [=](const Tensors& in) { return sum(in[0].passes_as_batch(), {0}) + sum(in[0], dims, true).pass(1); },
        rounded);
  }
  CHECK(sum(zeros({0, 3}, {DType::f32, device()}), {0}).to_vector<float>() == std::vector<float>(3, 0));
}

TEST_CASE("device: a sum is the same in every run") {
  const Tensor x = random_values({300, 70}, DType::f32, 5).to(device());
  for (const Shape& dims : {Shape{0}, Shape{1}, Shape{}}) {
    const Tensor first = sum(x, dims).to(kCpu);
    for (int run = 0; run < 3; ++run) CHECK(same_bits(sum(x, dims).to(kCpu), first));
  }
}

TEST_CASE("device: extrema, ties and NaN included") {
  for (const DType dtype : kAll) {
    for (const Shape& shape :
         {Shape{3, 1}, Shape{2, 33}, Shape{5, 130}, Shape{70, 3}, Shape{2, 9, 40}, Shape{1, 4100}}) {
      const Tensor x = random_values(shape, dtype, 11);
      INFO(std::string(describe(x)));
      for (int64_t dim = 0; dim < x.dim(); ++dim) {
        agree({x}, [=](const Tensors& in) { return argmax(in[0], dim); }, {});
        agree({x}, [=](const Tensors& in) { return argmin(in[0], dim, true); }, {});
      }
    }
  }
  for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    const Tensor x = random_values({4, 70}, dtype, 12);
    x.slice(0, 1, 2).slice(1, 40, 70, 7).fill_(std::numeric_limits<double>::quiet_NaN());
    x.slice(0, 2, 3).fill_(-std::numeric_limits<double>::infinity());
    for (int64_t dim : {0, 1}) {
      agree({x}, [=](const Tensors& in) { return argmax(in[0], dim); }, {});
      agree({x}, [=](const Tensors& in) { return argmin(in[0], dim); }, {});
    }
    agree({random_values({3, 7, 50}, dtype, 13)},
          [](const Tensors& in) {
            return amax(in[0], {0, 2});
          },
          {0, tolerance_of(dtype), true});
  }
}

TEST_CASE("device: running sums along rows and columns") {
  for (const DType dtype : kAll) {
    for (const Shape& shape : {Shape{2, 5}, Shape{3, 128}, Shape{2, 1030}, Shape{40, 3, 2}}) {
      const Tensor x = summands(shape, dtype, 14);
      INFO(std::string(describe(x)));
      for (int64_t dim = 0; dim < x.dim(); ++dim) {
        const double tolerance = tolerance_of(dtype);
        agree({x}, [=](const Tensors& in) { return cumsum(in[0], dim); }, {tolerance, tolerance, true});
      }
    }
  }
  for (const int64_t n : {31, 32, 33, 255, 256, 257, 1023, 1024, 1025, 2200}) {
    INFO(n);
    agree({summands({2, n}, DType::f32, n)}, [](const Tensors& in) { return cumsum(in[0], 1); },
          {1e-5, 1e-5, true});
  }
  const Tensor x = ones({1, 300});
  x.slice(1, 100, 101).fill_(std::numeric_limits<double>::infinity());
  agree({x}, [](const Tensors& in) { return cumsum(in[0], 1); }, {0, 0, false});
}
