// Max pooling beside its definition, window by window.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/pooling.h"
#include "ops/views.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Windows {
  Shape kernel, stride, padding;
};

struct Pooled {
  std::vector<float> y, dx;
};

// Two maps of h x w: the first of equal values wins, and NaN; the winner gets the gradient of its window.
Pooled by_definition(const std::vector<float>& x, const std::vector<float>& g, int64_t h, int64_t w,
                     const Windows& o) {
  Pooled result{{}, std::vector<float>(x.size(), 0)};
  for (int64_t map = 0; map < 2; ++map)
    for (int64_t top = -o.padding[0]; top + o.kernel[0] <= h + o.padding[0]; top += o.stride[0])
      for (int64_t left = -o.padding[1]; left + o.kernel[1] <= w + o.padding[1]; left += o.stride[1]) {
        int64_t winner = -1;
        for (int64_t i = std::max<int64_t>(top, 0); i < std::min(h, top + o.kernel[0]); ++i)
          for (int64_t j = std::max<int64_t>(left, 0); j < std::min(w, left + o.kernel[1]); ++j) {
            const int64_t at = (map * h + i) * w + j;
            if (winner < 0 || x[at] > x[winner] || (std::isnan(x[at]) && !std::isnan(x[winner]))) winner = at;
          }
        result.dx[winner] += g[result.y.size()];
        result.y.push_back(x[winner]);
      }
  return result;
}

}  // namespace

TEST_CASE("max_pool2d: values and gradients of every kernel, stride and padding; ties, NaN and -inf") {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> few{-1, 0, 1, 2, -inf, -inf, -inf, nan};
  int64_t seed = 0;
  for (const Windows& o : {Windows{{2, 2}, {2, 2}, {0, 0}},
                           {{3, 3}, {2, 2}, {1, 1}},
                           {{3, 3}, {1, 1}, {1, 1}},
                           {{2, 5}, {3, 4}, {1, 2}},
                           {{1, 2}, {1, 3}, {0, 1}},
                           {{4, 3}, {2, 1}, {2, 0}},
                           {{5, 4}, {100, 1'000'000'000'000}, {2, 1}},
                           {{17, 17}, {1, 2}, {0, 8}}})
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{17, 23}, {18, 40}, {28, 28}, {19, 16}}) {
      const Tensor index = SampleMaker(++seed, DType::f32, kCpu).integers({2, h, w}, 0, std::ssize(few));
      std::vector<float> values;
      for (const int64_t i : index.to_vector<int64_t>()) values.push_back(few[i]);
      const Tensor x = reshape(tensor(values), {2, h, w}).requires_grad_();
      const Tensor y = max_pool2d(x, o.kernel, o.stride, o.padding);
      const Tensor g = SampleMaker(seed, DType::f32, kCpu).integers(y.shape(), -9, 9).to(DType::f32);
      y.backward(g);
      const Pooled expected = by_definition(values, g.to_vector<float>(), h, w, o);
      const std::string about = fmt::format("kernel {}, stride {}, map {}", o.kernel, o.stride, x.shape());
      INFO(about);
      const std::vector<float> pooled = y.to_vector<float>();
      REQUIRE(pooled.size() == expected.y.size());
      CHECK(std::memcmp(pooled.data(), expected.y.data(), pooled.size() * sizeof(float)) == 0);
      CHECK(x.grad().to_vector<float>() == expected.dx);
    }
}
