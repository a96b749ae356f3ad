// What interpolation keeps: the image at its own size, constants, the pixels that nearest picks.
#include <doctest/doctest.h>

#include <cmath>

#include "ops/arithmetic.h"
#include "ops/interpolate.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

std::vector<InterpolateOptions> all_modes() {
  std::vector<InterpolateOptions> result{{.mode = Interpolation::nearest}};
  for (Interpolation mode : {Interpolation::bilinear, Interpolation::bicubic}) {
    for (bool corners : {false, true}) {
      for (bool antialias : {false, true})
        result.push_back({.mode = mode, .align_corners = corners, .antialias = antialias});
    }
  }
  return result;
}

}  // namespace

TEST_CASE("interpolate to the same size gives the image itself, bit by bit") {
  for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor x = SampleMaker(3, dtype, kCpu).normal({2, 3, 5, 4});
    for (InterpolateOptions options : all_modes()) {
      options.size = {5, 4};
      CHECK(same_bits(interpolate(x, options), x));
      options.size = {}, options.scale_factor = {1};
      CHECK(same_bits(interpolate(x, options), x));
    }
  }
}

TEST_CASE("interpolate: a constant stays what it is at every size, a ramp is one at twice the size") {
  const Tensor x = full({1, 2, 5, 7}, 0.75, {DType::f64});
  for (InterpolateOptions options : all_modes()) {
    for (const Shape& size : {Shape{3, 11}, Shape{1, 1}, Shape{13, 2}, Shape{6}}) {
      options.size = size;
      for (double value : interpolate(x, options).to_vector<double>()) CHECK(value == doctest::Approx(0.75));
    }
  }
  const Tensor ramp = arange(0, 8).reshape({1, 1, 1, 8}).expand({1, 1, 2, 8});
  const Tensor twice = interpolate(ramp, {.scale_factor = {1, 2}, .mode = Interpolation::bilinear});
  const auto values = twice.to_vector<float>();
  for (int i = 1; i < 15; ++i) CHECK(values[i] == doctest::Approx(0.5 * i - 0.25));
}

TEST_CASE("interpolate: nearest picks pixels of any dtype, the ones that torch picks") {
  const Tensor x = arange(0, 6, 1, {DType::u8}).reshape({1, 1, 2, 3});
  const Tensor y = interpolate(x, {.size = {4, 2}});
  CHECK(y.dtype() == DType::u8);
  CHECK(y.to_vector<int>() == std::vector<int>{0, 1, 0, 1, 3, 4, 3, 4});
  // 23 * 14 / 46 is 7, and less in f32.
  const Tensor line = arange(0, 14, 1, {DType::i64}).reshape({1, 1, 1, 14});
  CHECK(interpolate(line, {.size = {1, 46}})[0][0][0][23].item() == 6);
}

TEST_CASE("interpolate: one number is for both sides, and no images give none") {
  const Tensor x = ones({1, 1, 4, 6});
  CHECK(interpolate(x, {.size = {3}, .mode = Interpolation::bilinear}).shape() == Shape{1, 1, 3, 3});
  CHECK(interpolate(x, {.scale_factor = {0.5}}).shape() == Shape{1, 1, 2, 3});
  CHECK(interpolate(x, {.scale_factor = {1.3, 0.9}}).shape() == Shape{1, 1, 5, 5});
  CHECK(interpolate(zeros({0, 3, 4, 4}), {.size = {2}, .mode = Interpolation::bicubic}).shape() ==
        Shape{0, 3, 2, 2});
  for (double factor : {-1.0, 0.0, 1e300, std::nan("")})
    CHECK_THROWS_AS(interpolate(x, {.scale_factor = {factor}}), ConfigError);
  CHECK_THROWS_AS(interpolate(zeros({1, 1, 0, 4}), {.size = {2}}), ShapeError);
}
