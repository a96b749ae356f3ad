#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/dispatch.h"

using namespace tandem;

TEST_CASE("bf16 rounds to nearest even and keeps NaN and infinity") {
  CHECK(float(bf16(1.0f)) == 1.0f);
  CHECK(float(bf16(1.00390625f)) == 1.0f);       // half way between 1 and 1.0078125: to even
  CHECK(float(bf16(1.01171875f)) == 1.015625f);  // half way: to even, upwards
  CHECK(std::isnan(float(bf16(std::nanf("")))));
  CHECK(std::isinf(float(bf16(std::numeric_limits<float>::infinity()))));
}

TEST_CASE("a type outside of a dispatch is a DTypeError that names the op and the type") {
  CHECK_THROWS_WITH_AS(dispatch_floating("gelu", DType::i32, [&]<class T>() {}),
                       "gelu: expected a floating dtype (bf16, f32, f64), got i32", DTypeError);
}
