#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "autograd/error.h"
#include "ops/rdrop/cpu.h"

using namespace tandem;
using namespace tandem::rdrop;

TEST_CASE("R-Drop regression is the pairwise definition") {
  for (int64_t m = 1; m <= 6; ++m) {
    CAPTURE(m);
    const int64_t units = 5;
    std::mt19937 engine{uint32_t(m)};
    std::normal_distribution<double> normal;
    std::vector<double> y(m * units), grad(m * units, 7), target(units), want(m * units, 0);
    for (double& v : y) v = normal(engine);
    for (double& v : target) v = normal(engine);
    const std::vector<uint8_t> valid = {1, 1, 0, 1, 1};
    for (int64_t i = 0; i < m; ++i) y[i * units + 2] = std::numeric_limits<double>::quiet_NaN();
    const Problem problem{.passes = m, .units = units, .alpha = 1.3, .divisor = 3};
    double ce = 0, kl = 0;
    for (int64_t u = 0; u < units; ++u)
      for (int64_t i = 0; valid[u] && i < m; ++i) {
        const double error = y[i * units + u] - target[u];
        ce += error * error / double(m) / 3;
        want[i * units + u] += 2 * error / double(m) / 3;
        for (int64_t j = 0; j < m; ++j) {
          if (i == j) continue;
          const double d = y[i * units + u] - y[j * units + u], pair = 1 / (double(m * (m - 1)) * 3);
          kl += pair * d * d;
          want[i * units + u] += 1.3 / 2 * pair * 2 * d;
          want[j * units + u] -= 1.3 / 2 * pair * 2 * d;
        }
      }
    MseUnits<double> call{.problem = problem,
                          .x = {y.data(), units, 1},
                          .grad = {grad.data(), units, 1},
                          .target = target.data(),
                          .valid = valid.data()};
    const LossSums sums = mse_on_cpu(call);
    CHECK(sums.ce == doctest::Approx(ce).epsilon(1e-12));
    CHECK(std::abs(sums.kl - kl) < 1e-12 * (1 + kl));
    CHECK(sums.valid == 4);
    for (size_t at = 0; at < want.size(); ++at) CHECK(std::abs(grad[at] - want[at]) < 1e-12);

    std::vector<float> in_place(y.begin(), y.end());
    const std::vector<float> target32(target.begin(), target.end());
    const LossSums single = mse_on_cpu<float>({.problem = problem,
                                               .x = {in_place.data(), units, 1},
                                               .grad = {in_place.data(), units, 1},
                                               .target = target32.data(),
                                               .valid = valid.data()});
    CHECK(single.ce == doctest::Approx(ce).epsilon(1e-5));
    for (size_t at = 0; at < want.size(); ++at) CHECK(std::abs(in_place[at] - want[at]) < 1e-6);

    call.grad = {}, call.valid = nullptr;
    CHECK_THROWS_WITH_AS(mse_on_cpu(call), "rdrop_mse: y is nan at unit 2, pass 0, expected a finite value",
                         ValueError);
    target[3] = -std::numeric_limits<double>::infinity();
    call.valid = valid.data();
    CHECK_THROWS_WITH_AS(mse_on_cpu(call), "rdrop_mse: target is -inf at unit 3, expected a finite value",
                         ValueError);
  }
}
