#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/loops/row_reduce.h"

using namespace tandem;

namespace {

constexpr int64_t kLengths[] = {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000};

template <class T> std::vector<T> values(int64_t n, double offset = 0, uint64_t seed = 1) {
  std::vector<T> x;
  uint64_t state = seed;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x.push_back(static_cast<T>(static_cast<float>(offset + static_cast<double>(state >> 40) * 0x1p-21 - 4)));
  }
  return x;
}

// A bound of the rounding error of a sum of n terms, for terms whose magnitudes add to `total` and have a
// relative error of `term` epsilons themselves.
template <class A> long double bound(int64_t n, long double total, long double term = 0) {
  return (static_cast<long double>(n / kLanes) + 7 + term) * std::numeric_limits<A>::epsilon() * total;
}

template <class T> void check_against_naive(int64_t n) {
  using A = accumulate_t<T>;
  CAPTURE(n);
  const std::vector<T> x = values<T>(n), y = values<T>(n, 0.5, 7);
  const A shift = A(2.75);
  long double sum = 0, total = 0, dot = 0, dot_total = 0, sum_exp = 0;
  A largest = -std::numeric_limits<A>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    const long double a = A(x[i]), b = A(y[i]);
    sum += a;
    total += std::fabs(a);
    dot += a * b;
    dot_total += std::fabs(a * b);
    sum_exp += std::exp(a - shift);
    largest = std::max(largest, A(x[i]));
  }
  CHECK(row_max(x.data(), n) == largest);
  CHECK(std::fabs(row_sum(x.data(), n) - sum) <= bound<A>(n, total));
  CHECK(std::fabs(row_dot(x.data(), y.data(), n) - dot) <= bound<A>(n, dot_total, 1));
  // The terms: 1.1 ulp of exp, and the rounding of arguments of up to 7 in magnitude.
  CHECK(std::fabs(row_sum_exp(x.data(), n, shift) - sum_exp) <= bound<A>(n, sum_exp, 5));
}

template <class T, class U> void check_stored_exp(int64_t n) {
  using A = accumulate_t<T>;
  CAPTURE(n);
  const std::vector<T> x = values<T>(n);
  std::vector<U> out(n + 3, U(-1.0f));
  const A sum = row_sum_exp(x.data(), n, A(1.5), out.data());
  CHECK(sum == row_sum_exp(x.data(), n, A(1.5)));
  const long double epsilon = std::is_same_v<U, bf16> ? 0x1p-8L : 4 * std::numeric_limits<A>::epsilon();
  int good = 0;
  for (int64_t i = 0; i < n; ++i) {
    const long double want = std::exp(static_cast<long double>(A(x[i])) - 1.5L);
    good += std::fabs(static_cast<long double>(static_cast<compute_t<U>>(out[i])) - want) <= epsilon * want;
  }
  CHECK(good == n);
  for (int64_t i = n; i < n + 3; ++i)
    CHECK(static_cast<compute_t<U>>(out[i]) == -1);  // nothing behind the row
  if constexpr (std::is_same_v<T, U>) {
    std::vector<T> in_place = x;
    CHECK(row_sum_exp(in_place.data(), n, A(1.5), in_place.data()) == sum);
    CHECK(std::equal(in_place.begin(), in_place.end(), out.begin(), [](T a, T b) { return A(a) == A(b); }));
  }
}

template <class T> void check_mean_var(int64_t n, double offset) {
  using A = accumulate_t<T>;
  CAPTURE(n);
  CAPTURE(offset);
  const std::vector<T> x = values<T>(n, offset);
  long double mean = 0, total = 0, var = 0;
  for (const T v : x) {
    mean += A(v);
    total += std::fabs(A(v));
  }
  mean /= n;
  for (const T v : x) var += (A(v) - mean) * (A(v) - mean);
  var /= n;
  const auto got = row_mean_var(x.data(), n);
  const long double mean_error = bound<A>(n, total / n, 1);
  CHECK(std::fabs(got.mean - mean) <= mean_error);
  // An error d of the mean adds d^2: the deviations from the true mean add to 0.
  CHECK(std::fabs(got.var - var) <= bound<A>(n, var, 4) + mean_error * mean_error);
}

template <class T> void check_special_values() {
  using A = accumulate_t<T>;
  constexpr A inf = std::numeric_limits<A>::infinity();
  const T nan = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  const T low = static_cast<T>(-std::numeric_limits<float>::infinity());
  for (const int64_t n : kLengths) {
    CAPTURE(n);
    if (n == 0) continue;
    int max_nan = 0, sum_nan = 0, exp_nan = 0;
    for (int64_t at = 0; at < n; ++at) {
      std::vector<T> x = values<T>(n);
      x[at] = nan;
      max_nan += std::isnan(row_max(x.data(), n));
      sum_nan += std::isnan(row_sum(x.data(), n));
      exp_nan += std::isnan(row_sum_exp(x.data(), n, A(0)));
    }
    CHECK(max_nan == n);
    CHECK(sum_nan == n);
    CHECK(exp_nan == n);
    std::vector<T> masked(n, low);
    CHECK(row_max(masked.data(), n) == -inf);
    CHECK(row_sum_exp(masked.data(), n, A(0)) == 0);
    CHECK(std::isnan(row_sum_exp(masked.data(), n, -inf)));
    masked[n / 2] = T(2.0f);
    CHECK(row_max(masked.data(), n) == 2);
    CHECK(row_sum_exp(masked.data(), n, A(2)) == 1);
  }
  const T* none = nullptr;
  CHECK(row_max(none, 0) == -inf);
  CHECK(row_sum(none, 0) == 0);
  CHECK(row_dot(none, none, 0) == 0);
  CHECK(row_sum_exp(none, 0, A(1)) == 0);
  CHECK(std::isnan(row_mean_var(none, 0).mean));
  CHECK(std::isnan(row_mean_var(none, 0).var));
}

}  // namespace

TEST_CASE_TEMPLATE("row reductions agree with naive sums", T, bf16, float, double) {
  for (const int64_t n : kLengths) check_against_naive<T>(n);
}

TEST_CASE("row_sum_exp stores what it sums, in any type and in place") {
  for (const int64_t n : kLengths) {
    check_stored_exp<float, float>(n);
    check_stored_exp<bf16, bf16>(n);
    check_stored_exp<bf16, float>(n);
    check_stored_exp<double, double>(n);
  }
}

TEST_CASE_TEMPLATE("mean and variance are stable far from zero", T, bf16, float, double) {
  for (const int64_t n : kLengths) {
    if (n == 0) continue;
    check_mean_var<T>(n, 0);
    check_mean_var<T>(n, 3000);
  }
  const std::vector<T> constant(77, T(5.0f));
  CHECK(row_mean_var(constant.data(), 77).mean == 5);
  CHECK(row_mean_var(constant.data(), 77).var == 0);
}

TEST_CASE_TEMPLATE("row reductions of NaN, -inf and nothing", T, bf16, float, double) {
  check_special_values<T>();
}

TEST_CASE("the order of a sum is fixed: value i to lane i mod kLanes, lanes in a tree") {
  for (const int64_t n : kLengths) {
    CAPTURE(n);
    const std::vector<float> x = values<float>(n + 1);
    for (const int64_t start : {0, 1}) {  // whatever the alignment
      std::vector<float> lane(kLanes, 0.0f);
      for (int64_t i = 0; i < n; ++i) lane[i % kLanes] += x[start + i];
      for (int width = kLanes / 2; width > 0; width /= 2) {
        for (int l = 0; l < width; ++l) lane[l] += lane[l + width];
      }
      CHECK(row_sum(x.data() + start, n) == lane[0]);
    }
  }
}
