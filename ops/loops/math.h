// Elementary functions for the loops of kernels: no branches, tables, intrinsics or library calls in the f32
// versions, so that a plain loop around them becomes SIMD code, on every -march and on a GPU. The f64
// versions are the C++ library's: they serve gradient checks, where precision counts and speed does not.
//
// They are inlined by force: one call left in a loop, which the compiler likes to leave in large functions,
// makes the whole loop scalar.
//
// The errors stated are the largest over every f32 argument, in units in the last place of the result (ulp),
// subnormal numbers included. NaN gives NaN, and the limits at infinities, poles and zeros (with their sign)
// are those of <cmath>.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>

namespace tandem::math {

namespace detail {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// ln 2 = hi + lo; hi has so few bits that its product with an exponent is exact.
inline constexpr float kLn2Hi = 0.693145752f;
inline constexpr float kLn2Lo = 1.42860682e-06f;

[[gnu::always_inline]] constexpr uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
[[gnu::always_inline]] constexpr float from_bits(uint32_t u) { return std::bit_cast<float>(u); }
[[gnu::always_inline]] constexpr float magnitude(float x) { return from_bits(bits(x) & 0x7fffffffu); }
// `value`, which is >= 0, with the sign of x.
[[gnu::always_inline]] constexpr float with_sign(float value, float x) {
  return from_bits(bits(value) | (bits(x) & 0x80000000u));
}
// 2^n for -127 <= n <= 127 (0 for -127).
[[gnu::always_inline]] constexpr float power_of_two(int32_t n) {
  return from_bits(static_cast<uint32_t>(n + 127) << 23);
}

// The smaller (larger) of x and a limit; NaN stays NaN.
[[gnu::always_inline]] constexpr float at_most(float x, float limit) { return x > limit ? limit : x; }
[[gnu::always_inline]] constexpr float at_least(float x, float limit) { return x < limit ? limit : x; }

// x = n ln 2 + r, |r| <= 0.35, for |x| < 1000.
struct Reduced {
  float r;
  float n;
  int32_t exponent;  // n as an integer
};
[[gnu::always_inline]] constexpr Reduced reduce_ln2(float x) {
  constexpr float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
  const float shifted = x * 1.44269504f + shifter;
  const float n = shifted - shifter;
  const float r = (x - n * kLn2Hi) - n * kLn2Lo;
  return {r, n, static_cast<int32_t>(bits(shifted) - bits(shifter))};
}

// The polynomial with these coefficients, from that of the highest power on (Horner's rule).
template <class... C> [[gnu::always_inline]] constexpr float polynomial(float x, float first, C... more) {
  return ((first = first * x + more), ...);
}

// exp(r) for |r| <= 0.35; relative error of the polynomial 2^-28.
[[gnu::always_inline]] constexpr float exp_reduced(float r) {
  const float q = polynomial(r, 0.0013848329f, 0.00837001763f, 0.0416680053f, 0.166665092f, 0.49999994f);
  return (q * (r * r) + r) + 1.0f;
}

// exp(x) for |x| <= 87, where neither the result nor its scale leaves the normal range.
[[gnu::always_inline]] constexpr float exp_normal(float x) {
  const Reduced reduced = reduce_ln2(x);
  return exp_reduced(reduced.r) * power_of_two(reduced.exponent);
}

// ln((1 + f) 2^e) for -0.25 <= f <= 0.5; relative error of the polynomial 2^-27.6.
[[gnu::always_inline]] constexpr float log_reduced(float f, float e) {
  const float q = polynomial(f, -0.0450544916f, 0.104646392f, -0.131644607f, 0.14479275f, -0.166471064f,
                             0.199907824f, -0.250000983f, 0.333334506f, -0.5f);
  return (q * (f * f) + e * kLn2Lo + f) + e * kLn2Hi;
}

// The exponent field (in place, signed) that scales x > 0 into [0.75, 1.5).
[[gnu::always_inline]] constexpr uint32_t exponent_field(float x) {
  return (bits(x) - bits(0.75f)) & 0xff800000u;
}
[[gnu::always_inline]] constexpr float exponent_value(uint32_t field) {
  return static_cast<float>(static_cast<int32_t>(field)) * 0x1p-23f;
}

}  // namespace detail

template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

// f(a, b), whose whole numbers wrap around: in unsigned ones, since C++ leaves it undefined for signed.
template <class T, class F> constexpr T wrapped(T a, T b, F f) {
  if constexpr (std::integral<T>) {
    using U = std::make_unsigned_t<decltype(a + b)>;
    return static_cast<T>(f(static_cast<U>(a), static_cast<U>(b)));
  } else {
    return static_cast<T>(f(a, b));
  }
}
template <class T> constexpr T plus(T a, T b) {
  return wrapped(a, b, [](auto x, auto y) { return x + y; });
}
template <class T> constexpr T minus(T a, T b) {
  return wrapped(a, b, [](auto x, auto y) { return x - y; });
}
template <class T> constexpr T times(T a, T b) {
  return wrapped(a, b, [](auto x, auto y) { return x * y; });
}

// small * large, where `small` falls faster than `large` grows: 0 where it has vanished, also beside
// infinity.
template <Real T> constexpr T vanishing(T small, T large) { return small == 0 ? T(0) : small * large; }

// e^x, 1.1 ulp.
[[gnu::always_inline]] constexpr float exp(float x) {
  using namespace detail;
  constexpr float lowest = -104.0f;  // e^-104 is below half of the least subnormal number
  const Reduced reduced = reduce_ln2(at_least(at_most(x, 89.0f), lowest));
  // 2^n in two factors: n reaches from -150 to 128. Far below, the second factor is 0 instead: an exact
  // product, since one that underflows costs a microcode assist on some CPUs (masked scores are -inf).
  const int32_t half = reduced.exponent >> 1;
  const float rest = x < lowest ? 0.0f : power_of_two(reduced.exponent - half);
  return exp_reduced(reduced.r) * power_of_two(half) * rest;
}

// e^x for x <= 0 or NaN, 1.1 ulp; 0 where e^x < e^-87, which no sum of such values notices beside e^0. Fewer
// instructions, and never a subnormal number.
[[gnu::always_inline]] constexpr float exp_nonpositive(float x) {
  const float e = detail::exp_normal(detail::at_least(x, -87.0f));
  return x < -87.0f ? 0.0f : e;
}
template <std::same_as<double> T> constexpr T exp_nonpositive(T x) { return std::exp(x); }

// e^x - 1, 2 ulp.
[[gnu::always_inline]] constexpr float expm1(float x) {
  using namespace detail;
  const Reduced reduced = reduce_ln2(at_least(at_most(x, 89.0f), -20.0f));
  const float r = reduced.r;
  const float q =
      polynomial(r, 0.000200680952f, 0.0013937318f, 0.00833308231f, 0.0416664444f, 0.166666672f, 0.5f);
  const float p = q * (r * r) + r;
  // 2^128 is not a number: the last factor of 2 comes after the sum.
  const bool beyond = reduced.exponent > 127;
  const float scale = power_of_two(beyond ? 127 : reduced.exponent);
  const float result = (scale * p + (scale - 1.0f)) * (beyond ? 2.0f : 1.0f);
  return with_sign(magnitude(result), x);
}

// Natural logarithm, 1 ulp; -inf at 0, NaN below.
[[gnu::always_inline]] constexpr float log(float x) {
  using namespace detail;
  const bool subnormal = x < std::numeric_limits<float>::min();
  const float y = subnormal ? x * 0x1p23f : x;
  const uint32_t field = exponent_field(y);
  const float e = exponent_value(field) - (subnormal ? 23.0f : 0.0f);
  const float result = log_reduced(from_bits(bits(y) - field) - 1.0f, e);
  const float positive = x < kInf ? result : x;
  const float other = x == 0.0f ? -kInf : kNaN;
  return x > 0.0f ? positive : other;
}

// ln(1 + x), 1 ulp; -inf at -1, NaN below.
[[gnu::always_inline]] constexpr float log1p(float x) {
  using namespace detail;
  // 1 + f = (1 + x) / 2^e, from x / 2^e and 1 / 2^e, which are exact: 1 + x only chooses e.
  const uint32_t field = exponent_field(1.0f + x);
  const float f = from_bits(bits(x) - field) + (0.25f * from_bits(bits(4.0f) - field) - 1.0f);
  const float result = with_sign(magnitude(log_reduced(f, exponent_value(field))), x);
  const float inside = x < kInf ? result : x;
  const float other = x == -1.0f ? -kInf : kNaN;
  return x > -1.0f ? inside : other;
}

// 2 ulp.
[[gnu::always_inline]] constexpr float tanh(float x) {
  using namespace detail;
  const float a = at_most(magnitude(x), 10.0f);  // 1 from 9.02
  const float s = a * a;
  const float q = polynomial(s, -0.00569229666f, 0.0206281673f, -0.0537365153f, 0.133314058f, -0.333332807f);
  const float low = q * s * a + a;
  const float high = 1.0f - 2.0f / (exp_normal(2.0f * a) + 1.0f);
  return with_sign(a < 0.625f ? low : high, x);
}

// The error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x, 2 ulp.
[[gnu::always_inline]] constexpr float erf(float x) {
  using namespace detail;
  const float a = at_most(magnitude(x), 4.0f);  // 1 from 3.92
  const float s = a * a;
  const float q = polynomial(s, -0.000654224947f, 0.00508686574f, -0.0268222429f, 0.112831622f, -0.376126081f,
                             0.128379166f);
  const float low = q * a + a;
  // ln(erfc(a)) on [0.8, 4].
  const float g = polynomial(a, 0.000207451842f, -0.00315360166f, 0.0226561725f, -0.104798712f, -0.636221945f,
                             -1.1282289f, -6.59867874e-05f);
  const float high = 1.0f - exp_normal(g);
  return with_sign(a < 0.8f ? low : high, x);
}

// 1 / (1 + e^-x), 2.5 ulp; precise to the end of both tails.
[[gnu::always_inline]] constexpr float sigmoid(float x) {
  const float e = exp(-detail::magnitude(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

template <std::same_as<double> T> constexpr T exp(T x) { return std::exp(x); }
template <std::same_as<double> T> constexpr T expm1(T x) { return std::expm1(x); }
template <std::same_as<double> T> constexpr T log(T x) { return std::log(x); }
template <std::same_as<double> T> constexpr T log1p(T x) { return std::log1p(x); }
template <std::same_as<double> T> constexpr T tanh(T x) { return std::tanh(x); }
template <std::same_as<double> T> constexpr T erf(T x) { return std::erf(x); }
template <std::same_as<double> T> constexpr T sigmoid(T x) {
  const T e = std::exp(x < 0 ? x : -x);
  return (x < 0 ? e : T(1)) / (T(1) + e);
}

// Square roots are instructions. Powers, sines and cosines are calls per element (not SIMD).
template <Real T> constexpr T sqrt(T x) { return std::sqrt(x); }
template <Real T> constexpr T rsqrt(T x) { return T(1) / std::sqrt(x); }
template <Real T> constexpr T pow(T x, T y) { return std::pow(x, y); }
template <Real T> constexpr T sin(T x) { return std::sin(x); }
template <Real T> constexpr T cos(T x) { return std::cos(x); }

}  // namespace tandem::math
