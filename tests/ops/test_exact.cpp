// Results that a shorter formula would only nearly give: divisions, signs of zeros, what is blocked.
#include <cmath>
#include <limits>

#include "autograd/engine.h"
#include "autograd/random.h"
#include "ops/ops.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor numbers(const Values& values, DType dtype = DType::f32) {
  return from_values(values, {static_cast<int64_t>(values.size())}).to(dtype).to(device());
}
Values found(const Tensor& x) { return values(x.detach().to(kCpu)); }

// Of the sum of f(x).
Values gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor leaf = x.clone().requires_grad_();
  return found(grad(sum(f(leaf)), {leaf})[0]);
}

}  // namespace

TEST_CASE("limits: a quotient is divided, and so are means") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    bool by_number = true, of_number = true, in_place = true, means = true, deviations = true;
    for (int n = 1; n <= 300; ++n) {
      const Tensor x = full({n}, n, {dtype, device()});
      by_number = by_number && found(x / n) == Values(static_cast<size_t>(n), 1);
      of_number = of_number && found(n / x) == Values(static_cast<size_t>(n), 1);
      in_place = in_place && found(x.clone().div_(n)) == Values(static_cast<size_t>(n), 1);
      const Tensor one = ones({n}, {dtype, device()});
      means = means && found(mean(one)) == Values{1};
      deviations = deviations && found(stddev(one, {}, 0)) == Values{0};
    }
    CHECK(by_number);
    CHECK(of_number);
    CHECK(in_place);
    CHECK(means);
    CHECK(deviations);
  }
  const Tensor few = arange(1, 257).to(DType::bf16).to(device());
  for (const double divisor : {3.1, 0.7, 0.1})
    CHECK(found(few.clone().div_(divisor)) == found(few / divisor));
  CHECK(found(numbers({0}) / 1e-40) == Values{0});
  CHECK(found(numbers({1e-10}) / 1e-40)[0] == doctest::Approx(1e30).epsilon(1e-4));
  CHECK(found(1e-20 / numbers({1e-39}))[0] == doctest::Approx(1e19).epsilon(1e-4));
  CHECK(std::isnan(found(mean(zeros({0}, {DType::f32, device()})))[0]));
}

TEST_CASE("limits: zeros have their signs") {
  const Tensor zero = numbers({0.0, -0.0});
  CHECK(found(1 / -zero) == Values{-kInf, kInf});
  CHECK(found(1 / neg(zero)) == Values{-kInf, kInf});
  CHECK(found(1 / (zero * 2)) == Values{kInf, -kInf});
  CHECK(found(1 / (zero * -2)) == Values{-kInf, kInf});
  CHECK(found(1 / abs(zero)) == Values{kInf, kInf});
  CHECK(found(abs(numbers({-3, 4, -kInf}))) == Values{3, 4, kInf});
}

TEST_CASE("limits: what is blocked has gradient 0, whatever comes from behind") {
  const Tensor x = numbers({-1, 0, 4});
  const Tensor none = numbers({0, 0, 0});
  CHECK(gradient(x, [&](const Tensor& t) { return sqrt(maximum(t, none)); }) == Values{0, kInf, 0.25});
  CHECK(gradient(-x, [&](const Tensor& t) { return sqrt(none - minimum(t, none)); }) ==
        Values{0, -kInf, -0.25});
  CHECK(gradient(x, [&](const Tensor& t) { return sqrt(relu(t)); }) == Values{0, 0, 0.25});
  CHECK(gradient(x, [&](const Tensor& t) { return log(relu(t)); }) == Values{0, 0, 0.25});
  const Tensor one = ones({1, 1}, {DType::f32, device()});
  CHECK(gradient(x.reshape({3, 1}), [&](const Tensor& t) {
          return sqrt(linear(t, one, {}, Activation::relu));
        }) == Values{0, 0, 0.25});
  // Batch norm's relu: at or below the mean.
  const Tensor batch = numbers({-1, 0, 1}).reshape({3, 1});
  const Tensor leaf = batch.clone().requires_grad_();
  const Tensor y = batch_norm_training(leaf, {}, {}, 0, true).y;
  const Values got = found(grad(y, {leaf}, numbers({kInf, 0, 0}).reshape({3, 1}))[0]);
  CHECK(got == Values{0, 0, 0});
  // Beside NaN the gradient is both sides'.
  const Tensor a = numbers({NAN, 1}).requires_grad_(), b = numbers({2, NAN}).requires_grad_();
  const Tensors both = grad(sum(maximum(a, b)), {a, b});
  CHECK(found(both[0]) == Values{1, 1});
  CHECK(found(both[1]) == Values{1, 1});
}

TEST_CASE("limits: pow at an exponent of 0 has both mixed second derivatives") {
  const Tensor a = numbers({2}, DType::f64).requires_grad_(), b = numbers({0}, DType::f64).requires_grad_();
  const auto first = [&](const Tensor& of) {
    return grad(pow(a, b), {of}, ones_like(a), {.create_graph = true})[0];
  };
  CHECK(found(grad(first(a), {b}, ones_like(a))[0]) == Values{0.5});
  CHECK(found(grad(first(b), {a}, ones_like(a))[0]) == Values{0.5});
  CHECK(gradient(numbers({kInf, 0, 3}), [](const Tensor& t) { return pow(t, zeros_like(t)); }) ==
        Values{0, 0, 0});
  CHECK(gradient(numbers({-1, 0, 2}), [](const Tensor& t) { return pow(zeros_like(t), t); }) ==
        Values{-kInf, 0, 0});
}

// Of f32 the product is a library's, and so is what it makes of infinity.
TEST_CASE("limits: gelu of -inf is 0 within a product of f64, too") {
  const Tensor x = full({1, 1}, -kInf, {DType::f64, device()}), w = ones({1, 1}, {DType::f64, device()});
  for (const Activation f : {Activation::gelu, Activation::gelu_tanh})
    CHECK(found(linear(x, w, {}, f)) == Values{0});
}

TEST_CASE("limits: places may be filled from the tensor itself") {
  const Tensor order = from_values(std::vector<int64_t>{3, 2, 1, 0}, {4}).to(device());
  const Tensor x = numbers({0, 1, 2, 3});
  x.index({order}) = x;
  CHECK(found(x) == Values{3, 2, 1, 0});
  x.index_put_({order}, x);
  CHECK(found(x) == Values{0, 1, 2, 3});
  x.index_put_({order}, x, true);
  CHECK(found(x) == Values{3, 3, 3, 3});
  const Tensor rows = numbers({0, 1, 2, 3, 4, 5}).reshape({3, 2});
  rows.index({from_values(std::vector<int64_t>{1, 2, 0}, {3}).to(device())}) = rows;
  CHECK(found(rows) == Values{4, 5, 0, 1, 2, 3});
}

TEST_CASE("limits: group_norm of no positions has a gradient of 0 for its weight") {
  const Tensor x = zeros({2, 4, 0}, {DType::f32, device()}),
               w = ones({4}, {DType::f32, device()}).requires_grad_();
  CHECK(found(grad(sum(group_norm(x, 2, w)), {w})[0]) == Values(4, 0));
}

TEST_CASE("split gives more parts than a shape has dimensions, and says which sizes do not fit") {
  CHECK(arange(12).split(std::vector<int64_t>(12, 1), 0).size() == 12);
  CHECK_THROWS_WITH_AS(arange(12).split(std::vector<int64_t>(10, 1), 0),
                       doctest::Contains("sizes [1,1,1,1,1,1,1,1,1,1] of dim 0"), ShapeError);
}

TEST_CASE("allclose takes whole numbers") {
  const Tensor a = arange(0, 3, 1, {DType::i64});
  CHECK(allclose(a, a));
  CHECK(allclose(a, a.to(DType::f32)));
  CHECK_FALSE(allclose(a, a + 1));
}

TEST_CASE("randint in a floating dtype gives what that has") {
  CHECK_THROWS_WITH_AS(randint(1000, {3}, {.seed = 1, .dtype = DType::bf16}),
                       "randint: 999 in bf16, which has every whole number from -256 to 256 only",
                       DTypeError);
  CHECK(found(amax(randint(256, {3000}, {.seed = 1, .dtype = DType::bf16})))[0] <= 255);
  CHECK_THROWS_AS(randint(int64_t{1} << 30, {3}, {.seed = 1, .dtype = DType::f32}), DTypeError);
}
