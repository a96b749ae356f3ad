// Pools on the device: sliding and adaptive windows, their gradients, and which of equal values wins.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/engine.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

}  // namespace

TEST_CASE("device pools: sliding and adaptive windows") {
  for (const DType dtype : kFloats) {
    const Tensor x = SampleMaker(8, dtype, kCpu).distinct({2, 3, 9, 8});
    for (const auto& [window, stride, padding] : {std::tuple{Shape{2, 2}, Shape{2, 2}, Shape{0, 0}},
                                                  {Shape{3, 4}, Shape{2, 1}, Shape{1, 2}},
                                                  {Shape{2, 3}, Shape{3, 4}, Shape{1, 0}},
                                                  {Shape{9, 8}, Shape{1, 1}, Shape{0, 0}}}) {
      const std::string about = fmt::format("{} {} {} {}", name_of(dtype), window, stride, padding);
      INFO(about);  // clang 14 captures no structured bindings
      const auto check = [&, w = window, s = stride, p = padding](auto pool) {
        agree(
            {x}, [=](const Tensors& in) { return pool(in[0], w, s, p); }, aligned());
      };
      check(max_pool2d);
      for (const bool counted : {true, false})
        check([counted](const Tensor& t, const Shape& w, const Shape& s, const Shape& p) {
          return avg_pool2d(t, w, s, p, counted);
        });
    }
    for (const Shape& size : {Shape{1, 1}, Shape{2, 3}, Shape{9, 8}, Shape{11, 10}})
      agree(
          {x}, [&](const Tensors& in) { return adaptive_avg_pool2d(in[0], size); }, aligned());
  }
}

TEST_CASE("device pools: wide ones of many windows, and the second derivative of max pools") {
  for (const DType dtype : kFloats) {
    const Tensor x = SampleMaker(12, dtype, kCpu).distinct({2, 3, 12, 17});
    for (const auto& [window, stride] : {std::pair{Shape{5, 9}, Shape{1, 1}}, {Shape{3, 2}, Shape{2, 1}}}) {
      const std::string about = fmt::format("{} {} {}", name_of(dtype), window, stride);
      INFO(about);
      const auto check = [&, w = window, s = stride](auto f) {
        agree(
            {x}, [=](const Tensors& in) { return f(in[0], w, s); }, aligned());
      };
      check([](const Tensor& t, const Shape& w, const Shape& s) { return max_pool2d(t, w, s); });
      check([](const Tensor& t, const Shape& w, const Shape& s) { return avg_pool2d(t, w, s); });
      // The gradient in the direction of the pool's own, so that its gradient is that of max_pool2d twice.
      check([](const Tensor& t, const Shape& w, const Shape& s) {
        const Tensor y = square(max_pool2d(t, w, s));
        return grad(y, {t}, y.detach(), {.create_graph = true})[0];
      });
    }
    for (const Shape& size : {Shape{1, 1}, Shape{1, 17}, Shape{7, 11}, Shape{30, 40}})
      agree(
          {x}, [&](const Tensors& in) { return adaptive_avg_pool2d(in[0], size); }, aligned());
  }
}

TEST_CASE("device pools: the first of equal values gets the gradient of a max pool, and NaN wins") {
  const float nan = std::nanf("");
  const Tensor x = tensor({1, 3, 3, 2, nan, 0, 5, 5, nan, 7, 5, 1, 2, 2, 2, 2}, {4, 4});
  const auto run = [&](Device where) {
    const Tensor leaf = x.to(where).clone().requires_grad_();
    const Tensor y = max_pool2d(leaf, {2, 2}, {1, 2});
    y.backward(ones_like(y));
    return std::pair{y.to(kCpu).to_vector<float>(), leaf.grad().to(kCpu).to_vector<float>()};
  };
  const auto here = run(kCpu), there = run(device());
  CHECK(here.second == there.second);
  for (size_t i = 0; i < here.first.size(); ++i)
    CHECK((here.first[i] == there.first[i] || (std::isnan(here.first[i]) && std::isnan(there.first[i]))));
}
