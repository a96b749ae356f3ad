// Operators between tensors and numbers, in place, and the ops that are methods.
#include "autograd/engine.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

// Whether an expression compiles.
template <class T>
concept as_condition = requires(T x) {
  x == x ? 1 : 0;
};
template <class T>
concept both = requires(T x) {
  x&& x;
};
static_assert(!as_condition<Tensor> && !both<Tensor>);

}  // namespace

TEST_CASE("comparisons are operators, with a number on either side") {
  const Tensor x = tensor({1, 2, 3}), y = tensor({3, 2, 1});
  const auto is = [](const Tensor& truths, const Values& expected) {
    CHECK((truths.dtype() == DType::boolean && values(truths) == expected));
  };
  is(x < y, {1, 0, 0}), is(x <= y, {1, 1, 0}), is(x > y, {0, 0, 1}), is(x >= y, {0, 1, 1});
  is(x == y, {0, 1, 0}), is(x != y, {1, 0, 1});
  is(x < 2, {1, 0, 0}), is(x <= 2, {1, 1, 0}), is(x > 2, {0, 0, 1}), is(x >= 2, {0, 1, 1});
  is(x == 2, {0, 1, 0}), is(x != 2, {1, 0, 1});
  is(2 < x, {0, 0, 1}), is(2 <= x, {0, 1, 1}), is(2 > x, {1, 0, 0}), is(2 >= x, {1, 1, 0});
  is(2 == x, {0, 1, 0}), is(2 != x, {1, 0, 1});
  is(x[0] == 1, {1}), is(x[0] == x[1], {0});
  is(!(x == 2), {1, 0, 1}), is(~(x == 2), {1, 0, 1}), is(!tensor({0, 2}), {1, 0});
  is((x > 1) & (x < 3), {0, 1, 0}), is((x == 1) | (x == 3), {1, 0, 1});
  check_throws<DTypeError>("operator&: expected bool tensors, got f32[3]; logical_and takes any dtype",
                           [&] { (x > 1) & x; });
  check_throws<DTypeError>("operator|: expected bool tensors, got i64[2]; logical_or",
                           [&] { zeros({2}, {DType::i64}) | (x > 1); });
  check_throws<DTypeError>("operator~: expected bool tensors, got f32[3]; logical_not", [&] { ~x; });
}

TEST_CASE("where, maximum, minimum and pow take numbers on either side") {
  const Tensor x = tensor({-1, 0.5, 2}), mask = x > 0;
  CHECK(values(where(mask, x, 0)) == Values{0, 0.5, 2});
  CHECK(values(where(mask, 7, x)) == Values{-1, 7, 7});
  CHECK(values(where(mask, 1, 0)) == Values{0, 1, 1});
  CHECK((where(mask, 1, 0).dtype() == DType::i64 && where(mask, 1.0, 0).dtype() == DType::f32));
  CHECK(values(maximum(x, 0)) == Values{0, 0.5, 2});
  CHECK(values(minimum(1, x)) == Values{-1, 0.5, 1});
  CHECK(values(maximum(1, arange(0, 3, 1, {DType::i64}))) == Values{1, 1, 2});
  CHECK(values(pow(2, tensor({0, 1, -1, 3}))) == Values{1, 2, 0.5, 8});
  CHECK(values(pow(tensor({3}), 2)) == Values{9});
  check_throws<DTypeError>("maximum: 0.5 with a tensor of i64",
                           [] { maximum(zeros({2}, {DType::i64}), 0.5); });
  check_throws<DTypeError>("where: -1 with a tensor of u8",
                           [&] { where(mask, zeros({3}, {DType::u8}), -1); });

  const Tensor a = leaf({-1, 0.5, 2});
  CHECK(values(grad(maximum(a, 0).sum(), {a})[0]) == Values{0, 1, 1});
  CHECK(values(grad(where(a > 0, 3, a).sum(), {a})[0]) == Values{1, 0, 0});
  CHECK(grad(pow(2, a).sum(), {a})[0].index({2}).item() == doctest::Approx(4 * std::log(2)));
}

TEST_CASE("+= and its like write in place, with tensors and numbers") {
  const Tensor x = tensor({{1, 2}, {3, 4}}), view = x[1];
  Tensor y = x;
  y += 1, y -= tensor({1, 2}), y *= x, y *= 2, y /= tensor({{2}, {4}}), y /= 0.5, y -= 0.25;
  CHECK(values(x) == Values{1.75, 1.75, 8.75, 8.75});
  CHECK(values(view) == Values{8.75, 8.75});
  x *= tensor({1, 0}).to(DType::bf16);
  CHECK(values(x) == Values{1.75, 0, 8.75, 0});
  const Tensor whole = arange(0, 3, 1, {DType::i64}).clone();
  const Tensor same = whole;
  whole += 1, whole *= 3, whole -= 2, whole *= same;
  CHECK(values(whole) == Values{1, 16, 49});
  check_throws<DTypeError>("mul_: 0.5 with a tensor of i64", [&] { whole *= 0.5; });
  check_throws<DTypeError>("div_: expected a floating dtype", [&] { whole /= 1; });
  check_throws<DTypeError>("add_: 0.5 with a tensor of i64", [&] { whole += 0.5; });
  check_throws<DTypeError>("div_: expected a floating dtype", [&] { whole /= same; });
  check_throws<DTypeError>("mul_: f32[3] into i64[3], which is narrower", [&] { whole *= ones({3}); });
  check_throws<ShapeError>("mul_: f32[2,2] does not fit into f32[2]", [&] { view *= x; });
  check_throws<DTypeError>("add_: expected a numeric dtype, got bool", [&] { Tensor(x > 1) += 1; });
  const Tensor passes = stack_passes({tensor({1, 2}), tensor({3, 4})}).clone();
  passes *= tensor({1, 10});
  CHECK(values(passes) == Values{1, 20, 3, 40});
}

TEST_CASE("the frequent ops are methods, so that calls chain") {
  const Tensor x = tensor({{0.5, 1, 2}, {3, 1.5, 0.25}});
  const auto same = [](const Tensor& method, const Tensor& function) { CHECK(same_bits(method, function)); };
  same(x.exp().log().sqrt().abs(), abs(sqrt(log(exp(x)))));
  same(x.square().rsqrt(), rsqrt(square(x)));
  same(x.sin().cos().tanh().sigmoid().relu(), relu(sigmoid(tanh(cos(sin(x))))));
  same(x.pow(2).pow(x), pow(pow(x, 2), x));
  same(x.clamp(0.5, 2).maximum(x.t().t()).minimum(x * x), minimum(maximum(clamp(x, 0.5, 2), x), x * x));
  same(x.eq(1), eq(x, 1)), same(x.ne(x), ne(x, x)), same(x.lt(1), lt(x, 1)), same(x.le(x), le(x, x));
  same(x.gt(1), gt(x, 1)), same(x.ge(x), ge(x, x)), same(x.eq(x), eq(x, x)), same(x.ne(1), ne(x, 1));
  same(x.lt(x), lt(x, x)), same(x.le(1), le(x, 1)), same(x.gt(x), gt(x, x)), same(x.ge(1), ge(x, 1));
  same(x.masked_fill(x > 1, 7), masked_fill(x, x > 1, 7));
  same(x.masked_select(x > 1), masked_select(x, x > 1));
  const Tensor index = zeros({2, 1}, {DType::i64});
  same(x.gather(1, index), gather(x, 1, index));
  same(x.index_select(0, index.flatten()), index_select(x, 0, index.flatten()));
  same(x.sum(1), sum(x, {1})), same(x.sum(), sum(x)), same(x.sum({0, 1}, true), sum(x, {0, 1}, true));
  same(x.sum({}, true), sum(x, {}, true));  // of all, not of dimension 0
  same(x.mean(-1), mean(x, {-1})), same(x.prod(0), prod(x, {0})), same(x.logsumexp(1), logsumexp(x, {1}));
  same(x.var(0), var(x, {0})), same(x.std(1, 0), stddev(x, {1}, 0)), same(x.std(), stddev(x));
  same(x.amax(0), amax(x, {0})), same(x.amin(0), amin(x, {0})), same(x.max(), max(x)), same(x.min(), min(x));
  same(x.max(1).values, max(x, 1).values), same(x.min(1, true).indices, min(x, 1, true).indices);
  same(x.argmax(), argmax(x)), same(x.argmin(1), argmin(x, 1)), same(x.argmax(0, true), argmax(x, 0, true));
  same(x.argmin(), argmin(x)), same(x.cumsum(1), cumsum(x, 1)), same(x.softmax(1), softmax(x, 1));
  same(x.log_softmax(0), log_softmax(x, 0)), same(x.matmul(x.t()), matmul(x, x.t()));
  same(x.sort(1, true).values, sort(x, 1, true).values), same(x.topk(2).indices, topk(x, 2).indices);
  same(x.split({1, 2}, 1)[1], split(x, {1, 2}, 1)[1]);
  same(x.split(2, 1)[1], split(x, 2, 1)[1]), same(x.chunk(2)[1], chunk(x, 2)[1]),
      same(x.unbind(1)[2], unbind(x, 1)[2]);
  CHECK(zeros({1, 2, 1}).squeeze().shape() == Shape{2});
  CHECK(zeros({1, 1}).squeeze().dim() == 0);
  CHECK((x.reshape(6).shape() == Shape{6} && x.reshape(-1).shape() == Shape{6} &&
         zeros(3).shape() == Shape{3}));
}

TEST_CASE("isnan, isfinite, equal and allclose") {
  const Tensor x = tensor({1, NAN, INFINITY, -INFINITY});
  CHECK(values(isnan(x)) == Values{0, 1, 0, 0});
  CHECK(values(isfinite(x)) == Values{1, 0, 0, 0});
  CHECK(values(isfinite(arange(2, {DType::i64}))) == Values{1, 1});
  CHECK((equal(x[0], tensor(1)) && !equal(x, x) && equal(zeros({0, 2}), zeros({0, 2}))));
  CHECK((!equal(ones({2}), ones({1, 2})) && !equal(ones({2}), tensor({1, 1 + 1e-6}))));
  CHECK(equal(tensor(std::vector<int64_t>{3, 1}), tensor({3, 1}, {DType::i64})));
  CHECK(allclose(tensor({100, 0}), tensor({100.0009, 1e-9})));
  CHECK(!allclose(tensor({100, 0}), tensor({100.002, 0})));
  CHECK(allclose(tensor({1, 2}), tensor(1.5), 0, 0.5));
  CHECK((allclose(tensor(INFINITY), tensor(INFINITY)) && !allclose(tensor(1), tensor(INFINITY)) &&
         !allclose(tensor(INFINITY), tensor(1)) && !allclose(tensor(NAN), tensor(NAN))));
  const Tensor passes = stack_passes({tensor({1, 2}), tensor({1, 3})});
  CHECK((equal(passes, passes) && !equal(passes, tensor({1, 2})) && !allclose(passes, tensor({1, 2}))));
}

TEST_CASE("all and any") {
  const Tensor x = tensor({{true, false}, {true, true}});
  CHECK((!x.all().item<bool>() && x.any().item<bool>()));
  CHECK(values(x.all(1)) == Values{0, 1});
  CHECK(values(all(x, {0}, true)) == Values{1, 0});
  CHECK(all(x, {0}, true).shape() == Shape{1, 2});
  CHECK((zeros({0}).all().item<bool>() && !zeros({0}).any().item<bool>()));
  CHECK(values(any(tensor({{0, NAN}, {0, -0.0}}), 1)) == Values{1, 0});
  CHECK(any(x).dtype() == DType::boolean);
}
