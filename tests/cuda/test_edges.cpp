// Sizes at which kernels change their form, and those around: vectors or single elements, teams of threads,
// the rests of unrolled loops; in every dtype, since each has kernels of its own.
#include <doctest/doctest.h>

#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kAll[] = {DType::boolean, DType::u8,  DType::i32, DType::i64,
                          DType::bf16,    DType::f32, DType::f64};
constexpr DType kFloats[] = {DType::bf16, DType::f32, DType::f64};

// Lengths of rows: 16 bytes are a piece; teams grow beyond 16 and 512 pieces (cuda/reduce.cuh), those that
// hold rows in registers beyond 32, 128, 256 and 1024 (cuda/rows.cuh).
std::vector<int64_t> lengths(DType dtype) {
  const int64_t v = 16 / static_cast<int64_t>(size_of(dtype));
  std::vector<int64_t> result;
  for (const int64_t pieces : {1, 3, 15, 17, 32, 33, 128, 129, 256, 257, 900, 1150})
    result.push_back(v * pieces);
  for (const int64_t n : {5, 17, 39, 111, 513, 771, 1101}) result.push_back(n);
  return result;
}

Comparison within(DType dtype) {
  const double tolerance = !is_floating(dtype)   ? 0
                           : dtype == DType::f64 ? 1e-12
                           : dtype == DType::f32 ? 1e-5
                                                 : 1e-2;
  return {tolerance, tolerance, true};
}

// Sums do not cancel, so that a lost term shows.
Tensor summands(const Shape& shape, DType dtype, uint64_t seed) {
  const Tensor x = random_values(shape, dtype, seed);
  return is_floating(dtype) ? (x * 0.3 + 1.0).detach() : x;
}

void check_along(const Shape& shape, DType dtype, int64_t dim) {
  const Tensor x = random_values(shape, dtype, 21), positive = summands(shape, dtype, 22);
  INFO(std::string(describe(x)), " along ", dim);
  agree(
      {positive}, [=](const Tensors& in) { return sum(in[0], {dim}); }, within(dtype));
  agree(
      {positive}, [=](const Tensors& in) { return cumsum(in[0], dim); }, within(dtype));
  agree({x}, [=](const Tensors& in) { return argmax(in[0], dim); }, {});
  agree({x}, [=](const Tensors& in) { return argmin(in[0], dim); }, {});
}

}  // namespace

TEST_CASE("edges: rows of every length are summed and searched, in every dtype") {
  for (const DType dtype : kAll)
    for (const int64_t n : lengths(dtype)) check_along({3, n}, dtype, 1);
}

TEST_CASE("edges: columns of every length are summed and searched, in every dtype") {
  for (const DType dtype : kAll)
    for (const int64_t n : {2, 3, 4, 7, 9, 33, 70})
      for (const int64_t columns : {2, 3, 8, 24, 33, 264}) check_along({n, columns}, dtype, 0);
}

TEST_CASE("edges: short columns of two rows of threads, some tasks for a block") {
  for (const DType dtype : kAll) {
    const int64_t v = std::min<int64_t>(8, 16 / static_cast<int64_t>(size_of(dtype)));
    check_along({5, 3, 100 * v}, dtype, 1);
  }
}

TEST_CASE("edges: sums over two dimensions, in every dtype") {
  for (const DType dtype : kAll) {
    // Vectors along the rows, and single elements, by teams of each size.
    for (const Shape& shape : {Shape{3, 2, 16}, Shape{9, 2, 112}, Shape{20, 3, 27}, Shape{40, 2, 320}}) {
      INFO(std::string(name_of(dtype)), " ", to_string(shape));
      agree(
          {summands(shape, dtype, 23)},
          [](const Tensors& in) {
            return sum(in[0], {0, 2});
          },
          within(dtype));
    }
    agree(
        {summands({9, 2, 7, 24}, dtype, 24)},
        [](const Tensors& in) {
          return sum(in[0], {0, 2});
        },
        within(dtype));
  }
}

TEST_CASE("edges: the largest and the smallest of values that differ in their last bits alone") {
  for (const DType dtype : {DType::f32, DType::f64, DType::i64}) {
    for (const int64_t n : {8, 30, 64, 500, 1200}) {
      // 1 + k ulp for k < 8, in each row one of the largest and one of the smallest; integers beyond 32 bits.
      const double step = dtype == DType::f32 ? 0x1p-23 : 0x1p-52;
      const Tensor k = random_index({30, n}, 6, n) + 1.0;
      for (int64_t row = 0; row < 30; ++row) {
        k[row].select(0, row * 37 % n).fill_(7);
        k[row].select(0, (row * 41 + 3) % n).fill_(0);
      }
      const Tensor x = dtype == DType::i64 ? k + 1e12 : (k.to(DType::f64) * step + 1.0).to(dtype);
      for (const int64_t dim : {0, 1}) {
        INFO(std::string(describe(x)), " along ", dim);
        agree({x}, [=](const Tensors& in) { return argmax(in[0], dim); }, {});
        agree({x}, [=](const Tensors& in) { return argmin(in[0], dim); }, {});
      }
    }
  }
}

TEST_CASE("edges: batch norm of many samples and of many channels") {
  for (const DType dtype : kFloats) {
    const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    for (const Shape& shape : {Shape{64, 8, 3}, Shape{300, 8, 5}, Shape{3, 1304, 1}}) {
      INFO(std::string(name_of(dtype)), " ", to_string(shape));
      agree(
          {random_values(shape, dtype, 34), random_values({shape[1]}, wide, 31),
           random_values({shape[1]}, wide, 32)},
          [](const Tensors& in) { return batch_norm(in[0], {}, in[1], in[2], true, 1e-2); }, within(dtype));
    }
  }
}

TEST_CASE("edges: norms of channels and groups of every length") {
  for (const DType dtype : kFloats) {
    const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    const Tensors weights = {random_values({4}, wide, 31), random_values({4}, wide, 32)};
    for (const int64_t n : lengths(dtype)) {
      const Tensor x = random_values({2, 4, n}, dtype, 33);
      INFO(std::string(describe(x)));
      const Comparison comparison = within(dtype);
      agree(
          {x, weights[0], weights[1]},
          [](const Tensors& in) { return batch_norm(in[0], {}, in[1], in[2], true, 1e-3); }, comparison);
      agree(
          {x, weights[0], weights[1]},
          [](const Tensors& in) { return group_norm(in[0], 2, in[1], in[2], 1e-3); }, comparison);
      // Groups that lie at their own alignments.
      agree(
          {x}, [](const Tensors& in) { return group_norm(in[0], 4, {}, {}, 1e-3); }, comparison);
    }
  }
}

TEST_CASE("edges: the largest value of a row is all of its softmax, wherever it is") {
  for (const DType dtype : kFloats) {
    for (const int64_t n : lengths(dtype)) {
      const Tensor x = random_values({8, n}, dtype, 44);
      for (int64_t row = 0; row < 8; ++row) x[row].select(0, (row * 77 + row / 4) % n).fill_(4000 + row);
      INFO(std::string(describe(x)));
      agree({x}, [](const Tensors& in) { return softmax(in[0], 1); }, {1e-6, 0, false});
    }
  }
}

TEST_CASE("edges: rows of every length are normalised, in every dtype") {
  for (const DType dtype : kFloats) {
    for (const int64_t n : lengths(dtype)) {
      const Tensor x = random_values({3, n}, dtype, 41);
      INFO(std::string(describe(x)));
      agree(
          {x}, [](const Tensors& in) { return softmax(in[0], 1); }, within(dtype));
      agree(
          {x}, [](const Tensors& in) { return log_softmax(in[0], 1); }, within(dtype));
      agree(
          {x}, [](const Tensors& in) { return logsumexp(in[0], {1}); }, within(dtype));
      if (n < 4) continue;
      agree(
          {x, random_values({n}, dtype, 42), random_values({n}, dtype, 43)},
          [=](const Tensors& in) { return layer_norm(in[0], {n}, in[1], in[2]); }, within(dtype));
      agree(
          {x, random_values({n}, dtype, 42)}, [](const Tensors& in) { return rms_norm(in[0], in[1]); },
          within(dtype));
    }
  }
}
