// The device's arithmetic against the host's: rounding modes and conversions to the bit, functions of the
// mathematical library within the error that NVIDIA states for them.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>

#include "device_array.h"
#include "kernels/functions.h"
#include "ptx/half.h"
#include "sim.h"

using functions::Function;
using functions::Mode;

namespace {

constexpr Mode modes[] = {Mode::nearest, Mode::zero, Mode::down, Mode::up};

int host_mode(Mode mode) {
  return mode == Mode::nearest ? FE_TONEAREST
         : mode == Mode::zero  ? FE_TOWARDZERO
         : mode == Mode::down  ? FE_DOWNWARD
                               : FE_UPWARD;
}

// The distance from the correctly rounded result, in units of its last place: as NVIDIA states errors.
template <class T> double error_in_ulps(T value, long double exact) {
  const T nearest = static_cast<T>(exact);
  if (std::isnan(nearest) || std::isnan(value))
    return std::isnan(nearest) && std::isnan(value) ? 0 : INFINITY;
  if (std::isinf(nearest) || std::isinf(value)) return nearest == value ? 0 : INFINITY;
  int exponent = 0;
  std::frexp(nearest, &exponent);
  const int least = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits;
  const T ulp = std::ldexp(T{1}, std::max(exponent - std::numeric_limits<T>::digits, least));
  return static_cast<double>(std::fabs(value - nearest) / ulp);
}

struct Case {
  Function function;
  const char* name;
  long double (*exact)(long double, long double);
  double low, high;     // of the first argument; the second is between 0.1 and 3, see below
  double ulps, ulps64;  // the errors that the CUDA programming guide states for f32 and f64
};

using L = long double;
long double erf_inverse(long double y) {
  long double x = 0;
  // Newton from a start that is close: the argument stays below 0.999.
  const long double w = -std::log((1 - y) * (1 + y));
  x = y * (0.886226899L + w * 0.2L);
  for (int i = 0; i < 60; ++i) x -= (std::erf(x) - y) / (1.1283791670955125738961589L * std::exp(-x * x));
  return x;
}

const Case cases[] = {
    {Function::exp, "exp", [](L a, L) { return std::exp(a); }, -85, 85, 1, 1},
    {Function::exp2, "exp2", [](L a, L) { return std::exp2(a); }, -120, 120, 2, 1},
    {Function::exp10, "exp10", [](L a, L) { return std::pow(10.0L, a); }, -37, 37, 2, 1},
    {Function::expm1, "expm1", [](L a, L) { return std::expm1(a); }, -10, 10, 1, 1},
    {Function::log, "log", [](L a, L) { return std::log(a); }, 1e-6, 100, 1, 1},
    {Function::log2, "log2", [](L a, L) { return std::log2(a); }, 1e-6, 100, 1, 1},
    {Function::log10, "log10", [](L a, L) { return std::log10(a); }, 1e-6, 100, 2, 1},
    {Function::log1p, "log1p", [](L a, L) { return std::log1p(a); }, -0.99, 100, 1, 1},
    {Function::sin, "sin", [](L a, L) { return std::sin(a); }, -1e6, 1e6, 2, 2},
    {Function::cos, "cos", [](L a, L) { return std::cos(a); }, -1e6, 1e6, 2, 2},
    {Function::tan, "tan", [](L a, L) { return std::tan(a); }, -100, 100, 4, 2},
    {Function::asin, "asin", [](L a, L) { return std::asin(a); }, -1, 1, 2, 2},
    {Function::acos, "acos", [](L a, L) { return std::acos(a); }, -1, 1, 2, 2},
    {Function::atan, "atan", [](L a, L) { return std::atan(a); }, -50, 50, 2, 2},
    {Function::atan2, "atan2", [](L a, L b) { return std::atan2(a, b); }, -50, 50, 3, 2},
    {Function::sinh, "sinh", [](L a, L) { return std::sinh(a); }, -20, 20, 3, 2},
    {Function::cosh, "cosh", [](L a, L) { return std::cosh(a); }, -20, 20, 2, 1},
    {Function::tanh, "tanh", [](L a, L) { return std::tanh(a); }, -6, 6, 2, 1},
    {Function::pow, "pow", [](L a, L b) { return std::pow(a, b); }, 1e-3, 100, 4, 2},
    {Function::erf, "erf", [](L a, L) { return std::erf(a); }, -4, 4, 2, 2},
    {Function::erfc, "erfc", [](L a, L) { return std::erfc(a); }, -4, 8, 4, 5},
    {Function::erfinv, "erfinv", [](L a, L) { return erf_inverse(a); }, -0.99, 0.99, 2, 5},
    {Function::lgamma, "lgamma", [](L a, L) { return std::lgamma(a); }, 3, 40, 6, 4},
    {Function::cbrt, "cbrt", [](L a, L) { return std::cbrt(a); }, -50, 50, 1, 1},
    {Function::rsqrt, "rsqrt", [](L a, L) { return 1 / std::sqrt(a); }, 1e-3, 100, 2, 1},
    {Function::sqrt, "sqrt", [](L a, L) { return L{std::sqrt(static_cast<double>(a))}; }, 0, 100, 0, 0},
    {Function::divide, "divide", [](L a, L b) { return L{static_cast<double>(a) / static_cast<double>(b)}; },
     -100, 100, 0, 0},
    {Function::fmod, "fmod", [](L a, L b) { return std::fmod(a, b); }, -100, 100, 0, 0},
    {Function::hypot, "hypot", [](L a, L b) { return std::hypot(a, b); }, -100, 100, 3, 2},
    {Function::round, "round", [](L a, L) { return std::round(a); }, -10, 10, 0, 0},
    {Function::rint, "rint", [](L a, L) { return std::rint(a); }, -10, 10, 0, 0},
    {Function::trunc, "trunc", [](L a, L) { return std::trunc(a); }, -10, 10, 0, 0},
    {Function::floor, "floor", [](L a, L) { return std::floor(a); }, -10, 10, 0, 0},
    {Function::ceil, "ceil", [](L a, L) { return std::ceil(a); }, -10, 10, 0, 0},
    {Function::fmin, "fmin", [](L a, L b) { return std::fmin(a, b); }, -3, 3, 0, 0},
    {Function::fmax, "fmax", [](L a, L b) { return std::fmax(a, b); }, -3, 3, 0, 0},
    {Function::copysign, "copysign", [](L a, L b) { return std::copysign(a, b); }, -3, 3, 0, 0},
};

template <class T> std::vector<T> uniform(size_t count, double low, double high, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> distribution(low, high);
  std::vector<T> result(count);
  for (T& value : result) value = static_cast<T>(distribution(engine));
  return result;
}

template <class T> void check_functions() {
  constexpr size_t count = 600;
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    std::vector<T> a = uniform<T>(count, c.low, c.high, 1), b = uniform<T>(count, 0.1, 3, 2);
    for (size_t i = 0; i < count; i += 3) b[i] = -b[i];
    if (c.function == Function::rint || c.function == Function::round)
      a[0] = 2.5, a[1] = -3.5, a[2] = T(-0.3);
    const DeviceArray<T> da(a), db(b), dy(count);
    functions::apply(c.function, count, da.data(), db.data(), dy.data());
    const std::vector<T> y = dy.values();
    double worst = 0;
    size_t where = 0;
    for (size_t i = 0; i < count; ++i) {
      const double error = error_in_ulps(y[i], c.exact(a[i], b[i]));
      if (error > worst) worst = error, where = i;
    }
    CHECK_MESSAGE(worst <= (sizeof(T) == 4 ? c.ulps : c.ulps64), "of ", a[where], ", ", b[where], ": ",
                  y[where], " instead of ", static_cast<double>(c.exact(a[where], b[where])), ", off by ",
                  worst);
  }
}

// Values of all magnitudes, and the special ones.
template <class T> std::vector<T> varied(size_t count, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::vector<T> result;
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const T infinity = std::numeric_limits<T>::infinity();
  for (const T value : {T(0), T(-0.0), T(1), T(-1), infinity, -infinity, std::numeric_limits<T>::quiet_NaN(),
                        std::numeric_limits<T>::min(), std::numeric_limits<T>::denorm_min(),
                        -std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::max(), T(0.5), T(1.5),
                        T(2.5), T(-0.5)}) {
    result.push_back(value);
  }
  while (result.size() < count) {
    if (engine() % 3 == 0) {
      result.push_back(std::bit_cast<T>(static_cast<Bits>(engine())));
    } else {
      result.push_back(static_cast<T>(std::ldexp(static_cast<double>(static_cast<int64_t>(engine())),
                                                 static_cast<int>(engine() % 40) - 85)));
    }
  }
  std::shuffle(result.begin(), result.end(), engine);
  return result;
}

template <class T> bool same(T a, T b) {
  return std::isnan(a) ? std::isnan(b) : std::memcmp(&a, &b, sizeof a) == 0;
}

template <class T> void check_rounding() {
  constexpr size_t count = 500;
  const std::vector<T> a = varied<T>(count, 1), b = varied<T>(count, 2), c = varied<T>(count, 3);
  const DeviceArray<T> da(a), db(b), dc(c), dy(6 * count);
  for (const Mode mode : modes) {
    functions::rounded(mode, count, da.data(), db.data(), dc.data(), dy.data());
    const std::vector<T> y = dy.values();
    for (size_t i = 0; i < count; ++i) {
      std::fesetround(host_mode(mode));
      volatile T x0 = a[i], x1 = b[i], x2 = c[i], one = 1;
      const T expected[6] = {static_cast<T>(x0 + x1), static_cast<T>(x0 * x1), std::fma(x0, x1, x2),
                             static_cast<T>(x0 / x1), std::sqrt(x0),           static_cast<T>(one / x1)};
      std::fesetround(FE_TONEAREST);
      for (size_t k = 0; k < 6; ++k) {
        CHECK_MESSAGE(same(y[6 * i + k], expected[k]), "operation ", k, " of ", a[i], ", ", b[i], ", ", c[i],
                      " mode ", static_cast<int>(mode), ": ", y[6 * i + k], " instead of ", expected[k]);
      }
    }
  }
}

template <class Integer> int64_t saturated(long double value) {
  if (std::isnan(value)) return 0;
  if (value <= static_cast<long double>(std::numeric_limits<Integer>::min()))
    return static_cast<int64_t>(std::numeric_limits<Integer>::min());
  if (value >= static_cast<long double>(std::numeric_limits<Integer>::max()))
    return static_cast<int64_t>(std::numeric_limits<Integer>::max());
  return static_cast<int64_t>(static_cast<Integer>(value));
}

template <class T> void check_to_integers() {
  std::vector<T> a = varied<T>(400, 5);
  // NaN to 64 bits differs between devices and their documentation.
  std::replace_if(
      a.begin(), a.end(), [](T v) { return std::isnan(v); }, T(3));
  const DeviceArray<T> da(a);
  const DeviceArray<int64_t> dy(4 * a.size());
  for (const Mode mode : modes) {
    functions::to_integers(mode, static_cast<int>(a.size()), da.data(), dy.data());
    const std::vector<int64_t> y = dy.values();
    for (size_t i = 0; i < a.size(); ++i) {
      const T v = a[i];
      const T r = mode == Mode::nearest ? std::nearbyint(v)
                  : mode == Mode::zero  ? std::trunc(v)
                  : mode == Mode::down  ? std::floor(v)
                                        : std::ceil(v);
      CHECK(y[4 * i] == saturated<int32_t>(r));
      CHECK(y[4 * i + 1] == saturated<uint32_t>(r));
      CHECK(y[4 * i + 2] == saturated<int64_t>(r));
      CHECK(y[4 * i + 3] == saturated<uint64_t>(r));
    }
  }
}

float flush(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}

}  // namespace

TEST_CASE("functions: f32 within NVIDIA's bounds") { check_functions<float>(); }
TEST_CASE("functions: f64 within NVIDIA's bounds") { check_functions<double>(); }

TEST_CASE("functions: intrinsics of less accuracy") {
  struct Fast {
    double (*exact)(double, double);
    double low, high, relative, absolute;
  };
  const Fast cases_of[functions::fast_functions] = {
      {[](double a, double) { return std::exp(a); }, -10, 10, 1e-6, 0},
      {[](double a, double) { return std::log(a); }, 2, 100, 3e-7, 0},
      {[](double a, double) { return std::sin(a); }, -3, 3, 0, 5e-7},
      {[](double a, double) { return std::cos(a); }, -3, 3, 0, 5e-7},
      {[](double a, double b) { return a / b; }, -9, 9, 3e-7, 0},
      {[](double a, double) { return std::tanh(a); }, -5, 5, 5e-4, 0}};
  for (int f = 0; f < functions::fast_functions; ++f) {
    CAPTURE(f);
    const Fast& c = cases_of[f];
    const std::vector<float> a = uniform<float>(300, c.low, c.high, 3), b = uniform<float>(300, 0.5, 2, 4);
    const DeviceArray<float> da(a), db(b), dy(300);
    functions::apply_fast(f, 300, da.data(), db.data(), dy.data());
    const std::vector<float> y = dy.values();
    for (size_t i = 0; i < 300; ++i) {
      const double exact = c.exact(a[i], b[i]);
      CHECK(std::fabs(y[i] - exact) <= c.relative * std::fabs(exact) + c.absolute);
    }
  }
}

TEST_CASE("functions: rounding modes of f32, to the bit") { check_rounding<float>(); }
TEST_CASE("functions: rounding modes of f64, to the bit") { check_rounding<double>(); }

TEST_CASE("functions: conversions to integers saturate") {
  check_to_integers<float>();
  check_to_integers<double>();
}

TEST_CASE("functions: conversions to f32 in each mode") {
  std::mt19937_64 engine(6);
  std::vector<int64_t> a(300);
  for (int64_t& value : a) value = static_cast<int64_t>(engine() >> (engine() % 60));
  const std::vector<double> wide = varied<double>(400, 8);
  const DeviceArray<int64_t> da(a);
  const DeviceArray<double> dw(wide);
  const DeviceArray<float> dy(4 * a.size()), dn(wide.size());
  for (const Mode mode : modes) {
    functions::to_floats(mode, static_cast<int>(a.size()), da.data(), dy.data());
    functions::narrowed(mode, static_cast<int>(wide.size()), dw.data(), dn.data());
    const std::vector<float> y = dy.values(), narrow = dn.values();
    std::fesetround(host_mode(mode));
    std::vector<float> expected, expected_narrow;
    for (const int64_t value : a) {
      volatile int64_t v = value;
      volatile int32_t s = static_cast<int32_t>(value);
      volatile uint32_t u = static_cast<uint32_t>(value);
      volatile uint64_t w = static_cast<uint64_t>(value);
      expected.insert(expected.end(), {static_cast<float>(s), static_cast<float>(u), static_cast<float>(v),
                                       static_cast<float>(w)});
    }
    for (const double value : wide) {
      volatile double v = value;
      expected_narrow.push_back(static_cast<float>(v));
    }
    std::fesetround(FE_TONEAREST);
    CHECK(y == expected);
    for (size_t i = 0; i < wide.size(); ++i) CHECK(same(narrow[i], expected_narrow[i]));
  }
}

TEST_CASE("functions: denormals flushed, results saturated") {
  std::vector<float> a = varied<float>(400, 10), b = varied<float>(400, 11);
  for (size_t i = 0; i < 100; ++i)
    a[i] = std::ldexp(a[i], -130), b[i] = std::ldexp(b[i], static_cast<int>(i % 3) * -60);
  const DeviceArray<float> da(a), db(b), df(6 * 400), ds(3 * 400);
  functions::flushed(400, da.data(), db.data(), df.data());
  functions::saturated(400, da.data(), db.data(), ds.data());
  const std::vector<float> y = df.values(), s = ds.values();
  const auto clamp = [](float v) { return v > 0 ? std::min(v, 1.0f) : 0.0f; };
  for (size_t i = 0; i < 400; ++i) {
    const float p = flush(a[i]), q = flush(b[i]);
    const float maximum = std::isnan(p)   ? q
                          : std::isnan(q) ? p
                          : p == q        ? (std::signbit(p) ? q : p)
                                          : std::max(p, q);
    const float expected[6] = {flush(p + q), flush(p * q), flush(std::fma(p, q, p)),
                               maximum,      -p,           flush(std::exp2(q))};
    for (size_t k = 0; k < 5; ++k) CHECK(same(y[6 * i + k], expected[k]));
    CHECK(error_in_ulps(y[6 * i + 5], expected[5]) <= 2);
    CHECK(same(s[3 * i], clamp(a[i] + b[i])));
    CHECK(same(s[3 * i + 1], clamp(a[i] * b[i])));
    CHECK(same(s[3 * i + 2], clamp(std::fma(a[i], b[i], a[i]))));
  }
}

TEST_CASE("functions: integer instructions, to the bit") {
  std::mt19937 engine(12);
  constexpr size_t count = 500;
  std::vector<uint32_t> a(count), b(count), c(count);
  for (size_t i = 0; i < count; ++i) a[i] = engine() >> (engine() % 30), b[i] = engine(), c[i] = engine();
  a[0] = 0, a[1] = ~0u, a[2] = 0x80000000u, b[2] = 0x80000000u;
  const DeviceArray<uint32_t> da(a), db(b), dc(c), dy(functions::integer_results * count);
  functions::integers(count, da.data(), db.data(), dc.data(), dy.data());
  const std::vector<uint32_t> y = dy.values();
  // A bit field one bit at a time, as the PTX manual defines it.
  const auto field = [](uint32_t value, uint32_t position, uint32_t length, bool sign) {
    const bool fill = sign && length != 0 && (value >> std::min(position + length - 1, 31u) & 1) != 0;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 32; ++i) {
      const bool bit = i < length && position + i < 32 ? (value >> (position + i) & 1) != 0 : fill;
      result |= uint32_t{bit} << i;
    }
    return result;
  };
  const auto low24 = [](uint32_t v) { return static_cast<int64_t>(static_cast<int32_t>(v << 8) >> 8); };
  for (size_t i = 0; i < count; ++i) {
    const uint32_t p = a[i], q = b[i], r = c[i];
    uint32_t expected[functions::integer_results];
    expected[0] = field(p, q & 63, r & 63, false);
    expected[1] = field(p, q & 63, r & 63, true);
    uint32_t inserted = q;
    for (uint32_t k = 0; k < (r >> 8 & 63); ++k) {
      const uint32_t at = (r & 63) + k;
      if (at < 32 && k < 32) inserted = (inserted & ~(1u << at)) | (p >> k & 1) << at;
    }
    expected[2] = inserted;
    expected[3] = p ^ q ^ r;
    expected[4] = (p & q) | (p & r) | (q & r);
    uint32_t permuted = 0;
    for (uint32_t k = 0; k < 4; ++k) {
      const uint32_t pick = r >> (4 * k) & 15;
      auto byte = static_cast<uint32_t>((uint64_t{q} << 32 | p) >> (8 * (pick & 7)) & 255);
      if (pick >= 8) byte = byte >= 128 ? 255 : 0;
      permuted |= byte << (8 * k);
    }
    expected[5] = permuted;
    const uint64_t both = uint64_t{q} << 32 | p;
    expected[6] = static_cast<uint32_t>(both >> std::min(r & 63, 32u));
    expected[7] = static_cast<uint32_t>(both << (r & 31) >> 32);
    expected[8] = p == 0 ? ~0u : 31 - static_cast<uint32_t>(std::countl_zero(p));
    const uint32_t magnitude = static_cast<int32_t>(p) < 0 ? ~p : p;
    expected[9] = magnitude == 0 ? ~0u : 31 - static_cast<uint32_t>(std::countl_zero(magnitude));
    expected[10] = static_cast<uint32_t>(uint64_t{p & 0xffffff} * (q & 0xffffff));
    expected[11] = static_cast<uint32_t>(low24(p) * low24(q) >> 16);
    const int64_t sum = int64_t{static_cast<int32_t>(p)} + static_cast<int32_t>(q);
    expected[12] = static_cast<uint32_t>(std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX));
    expected[13] = r + (uint64_t{p} + q > UINT32_MAX ? 1 : 0);
    expected[14] = r - (p < q ? 1 : 0);
    expected[15] = static_cast<uint32_t>((uint64_t{p} * q + r) >> 32);
    uint32_t dot = r;
    for (int k = 0; k < 32; k += 8)
      dot += static_cast<uint32_t>(static_cast<int8_t>(p >> k) * static_cast<int>(q >> k & 255));
    expected[16] = dot;
    expected[17] = static_cast<uint32_t>(static_cast<int32_t>(p) >> std::min(q & 63, 31u));
    expected[18] = static_cast<int32_t>(p) < static_cast<int32_t>(q) ? p : q;
    expected[19] = p >> 16 | p << 16;
    for (size_t k = 0; k < functions::integer_results; ++k) {
      CHECK_MESSAGE(y[functions::integer_results * i + k] == expected[k], "instruction ", k, " of ", p, ", ",
                    q, ", ", r);
    }
  }
}

TEST_CASE("functions: every half to f32 and back") {
  std::vector<uint16_t> a(65536);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<uint16_t>(i);
  const DeviceArray<uint16_t> da(a), back(a.size());
  const DeviceArray<float> dy(a.size());
  functions::halves(65536, da.data(), dy.data(), back.data());
  const std::vector<float> y = dy.values();
  const std::vector<uint16_t> b = back.values();
  size_t wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31);
    const double fraction = static_cast<double>(i & 1023), sign = i < 32768 ? 1 : -1;
    const bool nan = exponent == 31 && fraction != 0;
    const double expected = exponent == 31  ? INFINITY
                            : exponent == 0 ? std::ldexp(fraction, -24)
                                            : std::ldexp(1024 + fraction, exponent - 25);
    const bool right =
        nan ? std::isnan(y[i]) && (b[i] & 0x7fff) > 0x7c00 : y[i] == sign * expected && b[i] == a[i];
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 0);
}
