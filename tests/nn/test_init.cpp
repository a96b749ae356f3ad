#include <algorithm>
#include <cmath>

#include "nn/init.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

struct Moments {
  double mean, stddev, lowest, highest;
};
Moments moments(const Initializer& init, const Shape& shape) {
  const Tensor x = empty(shape, {DType::f64});
  init(x, {42});
  const auto v = values(x);
  double sum = 0, squares = 0;
  for (const double a : v) sum += a, squares += a * a;
  const double n = static_cast<double>(v.size()), mean = sum / n;
  return {mean, std::sqrt(squares / n - mean * mean), *std::min_element(v.begin(), v.end()),
          *std::max_element(v.begin(), v.end())};
}

// 200 x 300 values: the standard error of the mean is 0.004 stddev, that of the stddev at most 0.003 of it.
const Shape kShape{200, 300};

void check_spread(const Initializer& init, double stddev, const Shape& shape = kShape) {
  const Moments got = moments(init, shape);
  CHECK(std::abs(got.mean) < 0.02 * stddev);
  CHECK(std::abs(got.stddev / stddev - 1) < 0.015);
}

TEST_CASE("init: the standard deviations are those of the papers") {
  check_spread(init::normal(0, 0.3), 0.3);
  check_spread(init::xavier_uniform(), std::sqrt(2.0 / 500));
  check_spread(init::xavier_normal(2), 2 * std::sqrt(2.0 / 500));
  check_spread(init::kaiming_uniform(), std::sqrt(2.0 / 300));
  check_spread(init::kaiming_normal(), std::sqrt(2.0 / 300));
  check_spread(init::kaiming_uniform(std::sqrt(5)), std::sqrt(1.0 / 900));
  check_spread(init::kaiming_normal(), std::sqrt(2.0 / (75 * 4)), {200, 75, 2, 2});
}

TEST_CASE("init: uniform ones stay within their bounds and reach them") {
  const auto bounded = [](const Initializer& init, double bound) {
    const Moments got = moments(init, kShape);
    CHECK(got.lowest >= -bound);
    CHECK(got.highest < bound);
    CHECK(got.lowest < -0.999 * bound);
    CHECK(got.highest > 0.999 * bound);
  };
  bounded(init::uniform(-0.5, 0.5), 0.5);
  bounded(init::xavier_uniform(), std::sqrt(6.0 / 500));
  bounded(init::kaiming_uniform(std::sqrt(5)), 1 / std::sqrt(300.0));  // PyTorch's default of Linear
}

TEST_CASE("init: trunc_normal is cut and keeps its shape inside") {
  const Moments got = moments(init::trunc_normal(0.02), kShape);
  CHECK(got.lowest >= -0.04);
  CHECK(got.highest <= 0.04);
  CHECK(got.highest > 0.0398);
  // The standard deviation of N(0, 1) given |x| <= 2.
  check_spread(init::trunc_normal(0.02), 0.02 * 0.87962566);
  check_throws<ConfigError>("trunc_normal: cut is 0", [] { init::trunc_normal(0.02, 0); });
  check_throws<ConfigError>("trunc_normal: stddev is -1", [] { init::trunc_normal(-1); });
}

TEST_CASE("init: constants, f32 is f64 rounded, keys differ") {
  CHECK(moments(init::zeros(), kShape).highest == 0);
  CHECK(moments(init::ones(), kShape).lowest == 1);
  const Tensor wide = empty({100, 7}, {DType::f64}), narrow = empty({100, 7});
  for (const Initializer& init : {init::normal(), init::trunc_normal(), init::xavier_normal()}) {
    init(wide, {7});
    init(narrow, {7});
    CHECK(wide.to_vector<float>() == narrow.to_vector<float>());
    init(narrow, {8});
    CHECK(wide.to_vector<float>() != narrow.to_vector<float>());
  }
}

TEST_CASE("init: fans need a matrix") {
  CHECK(init::fans({5, 3, 2, 2}).in == 12);
  CHECK(init::fans({5, 3, 2, 2}).out == 20);
  check_throws<ShapeError>("fans: expected a weight [out, in, ...], got [3]",
                           [] { init::xavier_normal()(empty({3}), {1}); });
  check_throws<DTypeError>("got bf16", [] { const InitScope none{{.dtype = DType::bf16}}; });
}

}  // namespace
}  // namespace tandem::nn
