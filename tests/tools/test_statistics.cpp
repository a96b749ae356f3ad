#include "tools/tandem/statistics.h"

#include "tests/testing.h"

namespace tandem::command {
using namespace testing;
namespace {

TEST_CASE("statistics: Student's t, as tables have it") {
  const std::pair<int, double> table[] = {{1, 12.7062}, {2, 4.3027},  {4, 2.7764},  {9, 2.2622},
                                          {10, 2.2281}, {12, 2.1788}, {19, 2.0930}, {29, 2.0452},
                                          {60, 2.0003}, {120, 1.9799}};
  for (const auto& [degrees, t] : table) {
    CAPTURE(degrees);
    CHECK(std::abs(student_t_95(degrees) - t) < 2e-4);
    CHECK(student_t_95(degrees + 1) < student_t_95(degrees));
  }
  CHECK_THROWS_WITH_AS(student_t_95(0), "student_t_95: expected at least 1 degree of freedom, got 0",
                       ValueError);
}

TEST_CASE("statistics: mean, deviation and interval of several numbers, and of one") {
  const std::vector<double> x{1, 2, 3, 6};
  CHECK(mean(x) == 3);
  CHECK(deviation(x) == doctest::Approx(2.1602469));
  CHECK(half_interval(x) == doctest::Approx(3.182446 * 2.1602469 / 2).epsilon(1e-4));
  CHECK(deviation({5}) == 0);
  CHECK(std::isinf(half_interval({5})));
  CHECK(summary(x) == "3.000 ± 2.160");
  CHECK(summary({81.254}) == "81.25");
  CHECK(summary({0.12345}) == "0.1235");
}

}  // namespace
}  // namespace tandem::command
