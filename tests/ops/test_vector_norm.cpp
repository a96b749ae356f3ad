// Norms where samples away from kinks do not go: zeros, very large and very small numbers, no elements.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/arithmetic.h"
#include "ops/reduce.h"
#include "ops/vector_norm.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
using Values = std::vector<float>;

Values gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor leaf = x.clone().requires_grad_();
  f(leaf).sum().backward();
  return leaf.grad().to_vector<float>();
}

}  // namespace

TEST_CASE("a vector of zeros has norm 0 and derivative 0, of first and second order") {
  for (double p : {0.5, 1.0, 1.5, 2.0, 3.0, kInf, -kInf}) {
    CAPTURE(p);
    const Tensor x = zeros({2, 3}).requires_grad_();
    const Tensor y = norm(x, p, {1});
    CHECK(y.to_vector<float>() == Values{0, 0});
    y.backward(tensor({1, 2}), {.create_graph = true});
    const Tensor g = x.grad();
    CHECK(g.to_vector<float>() == Values(6, 0));
    x.grad() = Tensor();
    if (g.requires_grad()) {
      g.backward(ones_like(g));
      if (x.grad().defined()) CHECK(x.grad().to_vector<float>() == Values(6, 0));
    }
  }
  CHECK(gradient(zeros({1, 3}), [](auto& x) { return cosine_similarity(x, x); }) == Values(3, 0));
  CHECK(normalize(zeros({1, 3})).to_vector<float>() == Values(3, 0));
}

TEST_CASE("zeros within a vector have finite derivatives") {
  const Tensor x = tensor({0, 3, 0, -4});
  CHECK(gradient(x, [](auto& v) { return norm(v); }) == Values{0, 0.6f, 0, -0.8f});
  CHECK(gradient(x, [](auto& v) { return norm(v, 1); }) == Values{0, 1, 0, -1});
  CHECK(gradient(x, [](auto& v) { return norm(v, kInf); }) == Values{0, 0, 0, -1});
  for (float g : gradient(x, [](auto& v) { return norm(v, 0.5); })) CHECK(std::isfinite(g));
}

TEST_CASE("nothing over- or underflows of numbers that f32 and bf16 have") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name_of(dtype));
    for (double size : {0x1p-120, 0x1p-70, 0x1p70, 0x1p120}) {
      CAPTURE(size);
      const Tensor x = (tensor({3, -4}, {1, 2}) * size).to(dtype);
      for (double p : {1.0, 2.0, 4.0, 6.0, kInf}) {
        CAPTURE(p);
        const double expected = p == kInf ? 4 : std::pow(std::pow(3, p) + std::pow(4, p), 1 / p);
        CHECK(norm(x, p).item() ==
              doctest::Approx(expected * size).epsilon(dtype == DType::f32 ? 1e-6 : 4e-3));
        for (float g : gradient(x, [p](auto& v) { return norm(v, p); })) CHECK(std::abs(g) <= 1);
      }
      CHECK(normalize(x, 2, 1, 0).to(DType::f32).to_vector<float>()[0] == doctest::Approx(0.6).epsilon(4e-3));
      CHECK(cosine_similarity(x, x, 1, 0).item() == 1);
    }
  }
  CHECK(std::isinf(norm(tensor({1, -static_cast<float>(kInf)})).item()));
  CHECK(std::isnan(norm(tensor({1, std::numeric_limits<float>::quiet_NaN()})).item()));
}

TEST_CASE("norms of no elements are 0, and none are the norms of no vectors") {
  CHECK(norm(zeros({3, 0}), 2, {1}).to_vector<float>() == Values(3, 0));
  CHECK(norm(zeros({0}), 1).item() == 0);
  CHECK(norm(zeros({0, 3}), kInf, {-1}, true).shape() == Shape{0, 1});
  CHECK_THROWS_AS(norm(zeros({0, 3}), -kInf), ShapeError);
  for (double p : {0.0, -2.0, std::nan("")}) CHECK_THROWS_AS(norm(zeros({2}), p), ValueError);
}

TEST_CASE("cosine_similarity along a dimension that one of them is stretched along") {
  const Tensor a = tensor({1, -2, 3}), b = tensor({1, 2, -1, 0.5, 4, 3}, {2, 3});
  const Tensor expected = cosine_similarity(a.expand({2, 3}).contiguous(), b, 0);
  const Closeness same = close(cosine_similarity(a, b, 0), expected, 1e-6);
  CHECK_MESSAGE(same.close, same.message);
  // Pairs, as one product.
  const Tensor pairs = cosine_similarity(b.unsqueeze(1), b, -1);
  CHECK(pairs.shape() == Shape{2, 2});
  CHECK(pairs[0][0].item() == doctest::Approx(1));
  CHECK(pairs[0][1].item() == doctest::Approx(cosine_similarity(b[0], b[1], 0).item()));
}
