#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/loops/math.h"

using namespace tandem;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kSubnormal = std::numeric_limits<float>::denorm_min();

// Distance in units in the last place of the f32 numbers at `want`; beyond the largest, 2^128 stands for
// infinity.
double ulps(float got, double want) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : 1e30;
  const auto capped = [](double v) { return std::fabs(v) < 0x1p128 ? v : std::copysign(0x1p128, v); };
  int exponent;
  std::frexp(capped(want), &exponent);
  return std::fabs(capped(got) - capped(want)) / std::ldexp(1.0, std::clamp(exponent - 24, -149, 104));
}

template <class F> [[gnu::noinline]] void map(const float* x, float* y, int64_t n, F f) {
  for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

struct Worst {
  double ulps = 0;
  float at = 0;
};

// Every sign, exponent and a dense grid of fractions, then patterns without a regular step.
template <class F, class G> Worst worst_error(F f, G reference) {
  constexpr int n = 4096;
  std::vector<float> x(n), y(n);
  Worst worst;
  const auto check = [&] {
    map(x.data(), y.data(), n, f);
    for (int i = 0; i < n; ++i) {
      const double error = ulps(y[i], reference(static_cast<double>(x[i])));
      if (!(error <= worst.ulps)) worst = {error, x[i]};
    }
  };
  constexpr uint64_t step = 8191;
  for (uint64_t block = 0; block < (uint64_t{1} << 32); block += n * step) {
    for (int i = 0; i < n; ++i) x[i] = std::bit_cast<float>(static_cast<uint32_t>(block + i * step));
    check();
  }
  uint64_t state = 1;
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < n; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const uint32_t pattern = static_cast<uint32_t>(state >> 32);
      // Half of them where most functions bend: exponents from 2^-8 to 2^7.
      x[i] = std::bit_cast<float>(i % 2 ? pattern : (pattern & 0x87ffffffu) | 0x38000000u);
    }
    check();
  }
  const float edges[] = {0.0f,      -0.0f,     kSubnormal, -kSubnormal, 1.0f,        -1.0f,  kInf,
                         -kInf,     kNaN,      -kNaN,      88.7228390f, 88.7228394f, 89.0f,  1e38f,
                         -87.3365f, -103.972f, -103.973f,  -104.0f,     -1e38f,      0.625f, 0.8f,
                         3.92f,     4.0f,      9.02f,      10.0f,       0.75f,       1.5f,   0x1.fffffep127f};
  std::fill(x.begin(), x.end(), 0.0f);
  std::copy(std::begin(edges), std::end(edges), x.begin());
  check();
  return worst;
}

// The zeros, whose sign the distance does not see.
template <class F> bool keeps_zeros(F f) {
  return f(0.0f) == 0.0f && !std::signbit(f(0.0f)) && f(-0.0f) == 0.0f && std::signbit(f(-0.0f));
}

template <class F, class G> void check_ulps(F f, G reference, double limit) {
  const Worst worst = worst_error(f, reference);
  CAPTURE(worst.at);
  CHECK(worst.ulps <= limit);
}

const auto exp_f = [](auto x) { return math::exp(x); };
const auto expm1_f = [](auto x) { return math::expm1(x); };
const auto log_f = [](auto x) { return math::log(x); };
const auto log1p_f = [](auto x) { return math::log1p(x); };
const auto tanh_f = [](auto x) { return math::tanh(x); };
const auto erf_f = [](auto x) { return math::erf(x); };
const auto sigmoid_f = [](auto x) { return math::sigmoid(x); };

}  // namespace

TEST_CASE("elementary functions keep their stated errors over all of f32") {
  SUBCASE("exp") {
    check_ulps(
        exp_f, [](double x) { return std::exp(x); }, 1.1);
  }
  SUBCASE("exp of what is not positive") {
    check_ulps([](auto x) { return math::exp_nonpositive(x > 0 ? -x : x); },
               [](double x) { return x < -87 || x > 87 ? 0 : std::exp(-std::abs(x)); }, 1.1);
  }
  SUBCASE("expm1") {
    check_ulps(
        expm1_f, [](double x) { return std::expm1(x); }, 2.0);
  }
  SUBCASE("log") {
    check_ulps(
        log_f, [](double x) { return std::log(x); }, 1.0);
  }
  SUBCASE("log1p") {
    check_ulps(
        log1p_f, [](double x) { return std::log1p(x); }, 1.0);
  }
  SUBCASE("tanh") {
    check_ulps(
        tanh_f, [](double x) { return std::tanh(x); }, 2.0);
  }
  SUBCASE("erf") {
    check_ulps(
        erf_f, [](double x) { return std::erf(x); }, 2.0);
  }
  SUBCASE("sigmoid") {
    check_ulps(
        sigmoid_f, [](double x) { return 1 / (1 + std::exp(-x)); }, 2.5);
  }
  SUBCASE("sqrt") {
    check_ulps([](float x) { return math::sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.5);
  }
  SUBCASE("rsqrt") {
    check_ulps([](float x) { return math::rsqrt(x); }, [](double x) { return 1 / std::sqrt(x); }, 1.5);
  }
}

TEST_CASE("elementary functions at special values") {
  CHECK(math::exp(0.0f) == 1.0f);
  CHECK(math::exp(kInf) == kInf);
  CHECK(math::exp(-kInf) == 0.0f);
  CHECK(math::exp(-103.5f) == kSubnormal);
  CHECK(math::exp_nonpositive(0.0f) == 1.0f);
  CHECK(math::exp_nonpositive(-kInf) == 0.0f);
  CHECK(math::expm1(-kInf) == -1.0f);
  CHECK(math::expm1(kInf) == kInf);
  CHECK(math::log(1.0f) == 0.0f);
  CHECK(math::log(0.0f) == -kInf);
  CHECK(math::log(-0.0f) == -kInf);
  CHECK(math::log(kInf) == kInf);
  CHECK(std::isnan(math::log(-1.0f)));
  CHECK(std::isnan(math::log(-kInf)));
  CHECK(math::log1p(-1.0f) == -kInf);
  CHECK(math::log1p(kInf) == kInf);
  CHECK(std::isnan(math::log1p(-1.0000001f)));
  CHECK(math::tanh(kInf) == 1.0f);
  CHECK(math::tanh(-kInf) == -1.0f);
  CHECK(math::erf(kInf) == 1.0f);
  CHECK(math::erf(-kInf) == -1.0f);
  CHECK(math::sigmoid(0.0f) == 0.5f);
  CHECK(math::sigmoid(kInf) == 1.0f);
  CHECK(math::sigmoid(-kInf) == 0.0f);
  CHECK(math::sigmoid(-100.0f) > 0.0f);
  for (const float nan : {kNaN, -kNaN}) {
    CHECK(std::isnan(math::exp(nan)));
    CHECK(std::isnan(math::expm1(nan)));
    CHECK(std::isnan(math::log(nan)));
    CHECK(std::isnan(math::log1p(nan)));
    CHECK(std::isnan(math::tanh(nan)));
    CHECK(std::isnan(math::erf(nan)));
    CHECK(std::isnan(math::sigmoid(nan)));
  }
  CHECK(keeps_zeros(expm1_f));
  CHECK(keeps_zeros(log1p_f));
  CHECK(keeps_zeros(tanh_f));
  CHECK(keeps_zeros(erf_f));
}

TEST_CASE("exp rises, erf and tanh are odd") {
  // 2^-25 apart around 0 and across the first boundary of the reduction, at ln(2) / 2.
  int falls = 0;
  for (const float centre : {0.0f, 0.34657359f, -0.34657359f}) {
    float last = 0;
    for (int i = -20000; i <= 20000; ++i) {
      const float y = math::exp(centre + static_cast<float>(i) * 0x1p-25f);
      falls += y < last - 0x1p-23f;  // 1 ulp of play: the function is good to 1 ulp, not rounded correctly
      last = y;
    }
  }
  CHECK(falls == 0);
  int odd = 0;
  for (uint32_t pattern = 0; pattern < 0x7f800000u; pattern += 9973) {
    const float x = std::bit_cast<float>(pattern);
    odd += math::erf(-x) == -math::erf(x) && math::tanh(-x) == -math::tanh(x);
  }
  CHECK(odd == 0x7f7fffff / 9973 + 1);
}

TEST_CASE("a value gives the same bits in a SIMD loop and alone") {
  std::vector<float> x(1037), together(1037), alone(1037);
  for (size_t i = 0; i < x.size(); ++i) x[i] = -6.0f + 0.0117f * static_cast<float>(i);
  const auto same = [&](auto f) {
    map(x.data(), together.data(), static_cast<int64_t>(x.size()), f);
    for (size_t i = 0; i < x.size(); ++i) map(&x[i], &alone[i], 1, f);
    return std::memcmp(together.data(), alone.data(), x.size() * sizeof(float)) == 0;
  };
  CHECK(same(exp_f));
  CHECK(same(expm1_f));
  CHECK(same(log_f));
  CHECK(same(log1p_f));
  CHECK(same(tanh_f));
  CHECK(same(erf_f));
  CHECK(same(sigmoid_f));
}

TEST_CASE("f64 functions have f64's precision") {
  for (const double x : {-30.0, -2.5, -0.3, 1e-9, 0.7, 3.0, 20.0}) {
    CAPTURE(x);
    CHECK(math::exp(x) == std::exp(x));
    CHECK(math::expm1(x) == std::expm1(x));
    CHECK(math::log(x * x) == std::log(x * x));
    CHECK(math::log1p(x * x) == std::log1p(x * x));
    CHECK(math::tanh(x) == std::tanh(x));
    CHECK(math::erf(x) == std::erf(x));
    CHECK(math::sigmoid(x) == doctest::Approx(1 / (1 + std::exp(-x))).epsilon(1e-15));
    CHECK(math::rsqrt(x * x) == doctest::Approx(1 / std::fabs(x)).epsilon(1e-15));
    CHECK(math::pow(x * x, 1.5) == std::pow(x * x, 1.5));
    CHECK(math::sin(x) == std::sin(x));
    CHECK(math::cos(x) == std::cos(x));
  }
  CHECK(math::sigmoid(-1000.0) == 0.0);
  CHECK(math::sigmoid(1000.0) == 1.0);
}
