// What samples away from kinks cannot show: ties and NaN.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/extrema.h"
#include "ops/sort.h"

using namespace tandem;

namespace {

const float not_a_number = std::numeric_limits<float>::quiet_NaN();
const float inf = std::numeric_limits<float>::infinity();
using Indices = std::vector<int64_t>;
using Values = std::vector<float>;

}  // namespace

TEST_CASE("of equal values the first is chosen, along rows and along columns") {
  const Tensor x = tensor({3, 7, 7, 1, 1}), rows = tensor({5, 1, 5, 9, 2, 9}, {3, 2});
  CHECK(argmax(x).item() == 1);
  CHECK(argmin(x).item() == 3);
  CHECK(argmax(rows, 0).to_vector<int64_t>() == Indices{0, 1});
  CHECK(argmin(rows, 0).to_vector<int64_t>() == Indices{2, 0});
  CHECK(sort(x).indices.to_vector<int64_t>() == Indices{3, 4, 0, 1, 2});
  CHECK(argsort(x, 0, true).to_vector<int64_t>() == Indices{1, 2, 0, 3, 4});
  CHECK(topk(x, 3).indices.to_vector<int64_t>() == Indices{1, 2, 0});
  CHECK(topk(x, 3, 0, true, false).indices.to_vector<int64_t>() == Indices{0, 1, 2});
}

TEST_CASE("the first NaN is the maximum, the minimum, and last when sorted") {
  const Tensor x = tensor({3, not_a_number, inf, not_a_number, -inf});
  CHECK(argmax(x).item() == 1);
  CHECK(argmin(x).item() == 1);
  CHECK(argmax(x.reshape({5, 1}).expand({5, 2}), 0).to_vector<int64_t>() == Indices{1, 1});
  CHECK(std::isnan(max(x).item()));
  CHECK(std::isnan(min(x).item()));
  CHECK(argsort(x).to_vector<int64_t>() == Indices{4, 0, 2, 1, 3});
  CHECK(argsort(x, 0, true).to_vector<int64_t>() == Indices{1, 3, 2, 0, 4});
  CHECK(topk(x, 2).indices.to_vector<int64_t>() == Indices{1, 3});
  CHECK(topk(x, 2, 0, false).indices.to_vector<int64_t>() == Indices{4, 0});
}

TEST_CASE("max along a dimension gives its gradient to one element, amax to all that tie") {
  const Tensor x = tensor({4, 4, 1, 0, 2, 2}, {2, 3}).requires_grad_();
  max(x, 1).values.backward(tensor({6, 8}));
  CHECK(x.grad().to_vector<float>() == Values{6, 0, 0, 0, 8, 0});
  x.grad() = Tensor();
  amax(x, {1}).backward(tensor({6, 8}));
  CHECK(x.grad().to_vector<float>() == Values{3, 3, 0, 0, 4, 4});
}

TEST_CASE("more columns than one block of the kernel, and integers") {
  const Tensor x = arange(0, 600, 1, {DType::i32}).reshape({2, 300});
  CHECK(argmax(x, 0).to_vector<int64_t>() == Indices(300, 1));
  CHECK(amax(x, {1}).to_vector<int32_t>() == std::vector<int32_t>{299, 599});
  CHECK(argmin(x, 0).to_vector<int64_t>() == Indices(300, 0));
}
