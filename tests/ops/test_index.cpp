// x[...] = v and its like, masks, index_put: what is written where, gradients, the tape's rules.
#include "ops/index.h"

#include <utility>

#include "autograd/grad_mode.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/join.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

Tensor iota(const Shape& shape) {
  return arange(0, static_cast<double>(shape.numel())).reshape(shape).clone();
}
Tensor places(std::initializer_list<int64_t> values) {
  return from_values(std::vector<int64_t>(values), static_cast<int64_t>(values.size()));
}

// Whether an expression compiles: what has no place that keeps it is not assigned to.
template <class T>
concept to_a_result = requires(T x) {
  x.exp() = x;
};
template <class T>
concept to_a_sum = requires(T x) {
  (x + x) = x;
};
template <class T>
concept chained = requires(T x) {
  x[0] = x[1] = x;
};
template <class T>
concept to_a_name = requires(T x) {
  x = x[0];
};
template <class T>
concept to_a_place = requires(T x) {
  x[0] = x;
};
static_assert(!to_a_result<Tensor> && !to_a_sum<Tensor> && !chained<Tensor> && to_a_name<Tensor> &&
              to_a_place<Tensor>);

}  // namespace

TEST_CASE("an assignment to x[...] writes into x; one to a name makes it another tensor") {
  Tensor x = iota({2, 3});
  const Tensor same = x;
  x[0] = 7;
  CHECK(values(same) == Values{7, 7, 7, 3, 4, 5});
  x[0] = x[1];
  CHECK(values(same) == Values{3, 4, 5, 3, 4, 5});
  x[1][2] = tensor(9);
  x.index({{}, 0}) = tensor({1, 2});
  CHECK(values(same) == Values{1, 4, 5, 2, 4, 9});
  x[0] += 1, x[1] -= tensor({1, 2, 3}), x.index({{}, {1, {}}}) *= 2, x[0] /= x[0];
  CHECK(values(same) == Values{1, 1, 1, 1, 4, 12});
  x.index({0, {{}, {}, -1}}) = tensor({10, 20, 30});
  CHECK(values(same) == Values{30, 20, 10, 1, 4, 12});
  x.index({1, {{}, {}, -2}}) += tensor({100, 200});
  CHECK(values(same) == Values{30, 20, 10, 201, 4, 112});
  x[x > 100] = 0;
  x[{1, 2}] += 1;
  CHECK(values(same) == Values{30, 20, 10, 1, 5, 1});

  auto row = x[0];
  row = tensor({-1});
  CHECK(values(x[0]) == Values{30, 20, 10});
  row = x[1];  // a view: in place on it is in x
  row += 1;
  CHECK(values(x[1]) == Values{2, 6, 2});
  auto selected = x[x > 5];  // a copy
  selected += 1;
  CHECK(values(selected) == Values{31, 21, 11, 7});
  x = tensor({5});
  CHECK((values(x) == Values{5} && values(same) == Values{30, 20, 10, 2, 6, 2}));
  Tensors list{x, same};
  list[0] = list[1];
  CHECK(values(x) == Values{5});

  const Tensor whole = arange(0, 3, 1, {DType::i64}).clone();
  whole[0] = 5;
  CHECK(whole.to_vector<int64_t>() == std::vector<int64_t>{5, 1, 2});
  check_throws<DTypeError>("index: 0.5 with a tensor of i64", [&] { whole[0] = 0.5; });
  check_throws<DTypeError>("copy_: f32[] into i64[], which is narrower", [&] { whole[0] = tensor(1); });
  check_throws<ShapeError>("copy: i64[3] does not fit into i64[]", [&] { whole[0] = whole; });
  check_throws<AutogradError>("an undefined Tensor was used", [&] { whole[0] = Tensor(); });
}

TEST_CASE("writing by masks and places") {
  const Tensor x = iota({4});
  x[tensor({true, false, false, true})] = tensor({10, 20});
  CHECK(values(x) == Values{10, 1, 2, 20});
  x[places({2, 1, 2})] = tensor({5, 6, 7});  // the last stays
  CHECK(values(x) == Values{10, 6, 7, 20});
  x[places({0, 0})] += 1;  // once, as in PyTorch
  CHECK(values(x) == Values{11, 6, 7, 20});
  x.index_put_({places({0, 0})}, tensor(1), true);
  CHECK(values(x) == Values{13, 6, 7, 20});
  const Tensor y = iota({2, 3, 4}).permute({2, 0, 1});  // [4,2,3], in another order in memory
  y.index({places({0, 3}), {}, places({2, 1})}) = -1;   // no view shows these dimensions as one
  CHECK(values(y.index({0, {}, 2})) == Values{-1, -1});
  CHECK(values(y.index({3, {}, 1})) == Values{-1, -1});
  CHECK(y.sum().item() == 276 - (8 + 20 + 7 + 19) - 4);
  const Tensor order = places({2, 0, 1});  // written while it is read
  order[order] = places({10, 20, 30});
  CHECK(values(order) == Values{20, 30, 10});
  const Tensor passes = stack_passes({tensor({1, 2}), tensor({3, 4})}).clone();
  passes[tensor({false, true})] = 0;  // in each
  CHECK(values(passes) == Values{1, 0, 3, 0});
  check_throws<ShapeError>("index_put_: f32[2] x 2 passes does not fit into f32[4]",
                           [&] { x[x > 7] = passes; });
  check_throws<ShapeError>("index_put_: values f32[3] do not fit into [2]", [&] { x[x > 7] = zeros({3}); });
  check_throws<ShapeError>("index: bool[2] x 2 passes: expected one pass, since each would select",
                           [&] { passes[passes > 0] = 1; });
  check_throws<ValueError>("index: index 4 is out of range for size 4", [&] { x[places({4})] = 1; });
  check_throws<ValueError>("index: index -1 is out of range for size 4", [&] { x[places({-1})] = 1; });
}

TEST_CASE("in-place writes are counted, whichever way they go") {
  const Tensor x = iota({4});
  int64_t version = x.version();
  const auto counted = [&] { return x.version() > std::exchange(version, x.version()); };
  x[0] = 1;
  CHECK(counted());
  x[x > 2] = 1;
  CHECK(counted());
  x[{1, 3}] *= 2;
  CHECK(counted());
  x.index({{{}, {}, -1}}) = 3;
  CHECK(counted());
  x.index_put_({places({1})}, tensor(1), true);
  CHECK(counted());
  const Tensor leaf = iota({4}).requires_grad_();
  const Tensor factor = iota({4}), y = leaf * factor;
  factor[factor > 1] = 0;
  check_throws<AutogradError>("was written to in place", [&] { y.sum().backward(); });
}

TEST_CASE("index_put is the recorded form, in every order of derivatives") {
  const Tensor x = leaf({1, 2, 3, 4}), v = leaf({5, 6}), mask = from_values(std::vector<bool>{0, 1, 0, 1}, 4);
  const Tensor y = index_put(x, {mask}, v);
  CHECK(values(y) == Values{1, 5, 3, 6});
  CHECK(values(x) == Values{1, 2, 3, 4});
  (y * y).sum().backward();
  CHECK(values(x.grad()) == Values{2, 0, 6, 0});
  CHECK(values(v.grad()) == Values{10, 12});
  const Tensor z = index_put(x.detach(), {{1, 3}}, 0);
  CHECK(values(z) == Values{1, 0, 0, 4});
  CHECK(values(index_put(z, {places({0, 0, 3})}, 1, true)) == Values{3, 0, 0, 5});
  const Tensor of_passes = index_put(x.detach(), {0}, stack_passes({scalar(7), scalar(8)}));
  CHECK(values(of_passes) == Values{7, 2, 3, 4, 8, 2, 3, 4});
}

TEST_CASE("the tape refuses what it would not see, and a NoGradGuard allows") {
  const Tensor x = leaf({1, 2, 3}), plain = zeros({3}, {DType::f64});
  check_throws<AutogradError>("index_put(h, {...}, y)), or open a NoGradGuard for a leaf", [&] { x[0] = 1; });
  check_throws<AutogradError>("index_put_: f64[3] is on the tape", [&] { x[plain == 0] = 1; });
  check_throws<AutogradError>(
      "copy_: the source (f64[]) requires a gradient, which an in-place write would lose: "
      "write h = y (a part: h = index_put(h, {...}, y)), or detach() the source",
      [&] { plain[0] = x[0]; });
  check_throws<AutogradError>("index_put_: the source (f64[3]) requires a gradient",
                              [&] { plain[plain == 0] = x; });
  CHECK(values(x) == Values{1, 2, 3});
  {
    NoGradGuard guard;
    x[0] = 5, x[x == 2] = 6;
    plain[plain == 0] = x;
  }
  CHECK(values(x) == Values{5, 6, 3});
  CHECK(values(plain) == Values{5, 6, 3});
  CHECK(x.requires_grad());
}

TEST_CASE("masks select, and tell their places") {
  const Tensor x = iota({2, 3});
  CHECK(values(x[x > 2]) == Values{3, 4, 5});
  CHECK(values(x.masked_select(tensor({true, false, true}))) == Values{0, 2, 3, 5});
  CHECK(x.index({tensor({false, false})}).shape() == Shape{0, 3});
  CHECK(values(nonzero(x == 4)) == Values{1, 1});
  CHECK(nonzero(zeros({2, 0})).shape() == Shape{0, 2});
  CHECK(nonzero(scalar(3)).shape() == Shape{1, 0});
  CHECK(values(nonzero(tensor({0, NAN, -0.0, 1e-40}))) == Values{1, 3});
  const Tensor even = nonzero(tile(tensor({1, 0}), {15000}).reshape({100, 300}));
  CHECK(even.shape() == Shape{15000, 2});
  CHECK(equal(even.select(1, 0) * 300 + even.select(1, 1), arange(0, 30000, 2, {DType::i64})));
  const Tensor passes = stack_passes({x, x + 10.0});
  CHECK(values(passes[tensor({false, true})]) == Values{3, 4, 5, 13, 14, 15});
  check_throws<ShapeError>("masked_select: bool[2,3] x 2 passes: expected one pass",
                           [&] { masked_select(x, passes > 2); });
}
