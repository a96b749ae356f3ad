// Diagonals, repeats, rolls, grids and one-hot vectors at their edges.
#include <doctest/doctest.h>

#include <limits>

#include "ops/ops.h"

using namespace tandem;

namespace {
using Values = std::vector<float>;
}

TEST_CASE("diagonal is a view, and diag its inverse") {
  const Tensor x = arange(0, 12).reshape({3, 4}).clone();
  const Tensor d = diagonal(x, 1);
  CHECK(d.to_vector<float>() == Values{1, 6, 11});
  d.fill_(-1);
  CHECK(x[1][2].item() == -1);
  CHECK(diagonal(x, -1).to_vector<float>() == Values{4, 9});
  CHECK(diagonal(x, -3).shape() == Shape{0});
  for (int64_t far : {int64_t{100}, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()})
    CHECK(diagonal(x, far).shape() == Shape{0});
  CHECK(diagonal(zeros({2, 3, 4}), 0, -2, 0).shape() == Shape{4, 2});
  CHECK(diagonal(zeros({0, 3}), 0).shape() == Shape{0});
  CHECK(diag(tensor({1, 2}), -1).to_vector<float>() == Values{0, 0, 0, 1, 0, 0, 0, 2, 0});
  CHECK(diag(diag(tensor({1, 2}), 3), 3).to_vector<float>() == Values{1, 2});
}

TEST_CASE("roll along one dimension, by more than its size, and of all elements") {
  const Tensor x = arange(0, 6).reshape({2, 3});
  CHECK(roll(x, 1, 1).to_vector<float>() == Values{2, 0, 1, 5, 3, 4});
  CHECK(roll(x, -7, -1).to_vector<float>() == roll(x, {2}, {1}).to_vector<float>());
  CHECK(roll(x, 1).to_vector<float>() == Values{5, 0, 1, 2, 3, 4});
  CHECK(roll(x, {1}, {}).to_vector<float>() == Values{5, 0, 1, 2, 3, 4});
  CHECK(roll(zeros({0, 3}), 2).shape() == Shape{0, 3});
}

TEST_CASE("large tensors that lie across are copied, and read by loops, as small ones are") {
  for (const Shape& shape : {Shape{1056, 2115}, Shape{1050, 2130}, Shape{3, 1056, 704}}) {
    INFO(shape);
    const Tensor x = arange(0, static_cast<double>(shape.numel())).reshape(shape),
                 across = x.transpose(-1, -2);
    const int64_t rows = shape[shape.size() - 2], columns = shape[shape.size() - 1];
    const auto is_copy = [&](const Tensor& y, float factor) {
      const float* at = y.data<float>();
      int64_t wrong = 0;
      for (int64_t b = 0; b < shape.numel(); b += rows * columns)
        for (int64_t c = 0; c < columns; ++c)
          for (int64_t r = 0; r < rows; ++r)
            wrong += *at++ != factor * static_cast<float>(b + r * columns + c);
      return wrong == 0;
    };
    CHECK(is_copy(across.contiguous(), 1));
    CHECK(is_copy(across + across, 2));
    CHECK(is_copy(where(across > -1, across, 0), 1));
    const Tensor target = zeros({shape.numel() + 1}).slice(0, 1, shape.numel() + 1).reshape(across.shape());
    target.copy_(across);  // where no cache line begins
    CHECK(is_copy(target, 1));
  }
}

TEST_CASE("tile and repeat_interleave") {
  const Tensor x = tensor({1, 2, 3, 4}, {2, 2});
  CHECK(tile(x, {2}).to_vector<float>() == Values{1, 2, 1, 2, 3, 4, 3, 4});
  CHECK(tile(x, {2, 1, 1}).shape() == Shape{2, 2, 2});
  CHECK(tile(x, {}).shape() == Shape{2, 2});
  CHECK(tile(x, {0, 3}).shape() == Shape{0, 6});
  CHECK(tile(scalar(5), {3}).to_vector<float>() == Values{5, 5, 5});
  CHECK(repeat_interleave(x, 2, 0).to_vector<float>() == Values{1, 2, 1, 2, 3, 4, 3, 4});
  CHECK(repeat_interleave(x, 2).to_vector<float>() == Values{1, 1, 2, 2, 3, 3, 4, 4});
  CHECK_THROWS_AS(tile(x, {int64_t{1} << 62, 1}), ShapeError);
  CHECK(repeat_interleave(x, 0, 1).shape() == Shape{2, 0});
}

TEST_CASE("meshgrid") {
  const Tensors ij = meshgrid({arange(0, 2), arange(10, 13)});
  CHECK(ij[0].to_vector<float>() == Values{0, 0, 0, 1, 1, 1});
  CHECK(ij[1].to_vector<float>() == Values{10, 11, 12, 10, 11, 12});
  const Tensors xy = meshgrid({arange(0, 2), arange(10, 13)}, Indexing::xy);
  CHECK(xy[0].shape() == Shape{3, 2});
  CHECK(xy[0].to_vector<float>() == Values{0, 1, 0, 1, 0, 1});
  CHECK(meshgrid({arange(0, 2)}, Indexing::xy)[0].to_vector<float>() == Values{0, 1});
}

TEST_CASE("one_hot counts the classes of all passes") {
  const Tensor index = from_values(std::vector<int64_t>{0, 2}, {2});
  CHECK(one_hot(index).to_vector<int>() == std::vector<int>{1, 0, 0, 0, 0, 1});
  CHECK(one_hot(index).dtype() == DType::i64);
  CHECK(one_hot(stack_passes({index, index + 1})).shape() == Shape{2, 4});
  CHECK(one_hot(from_values(std::vector<int64_t>{}, {0}), 3).shape() == Shape{0, 3});
}
