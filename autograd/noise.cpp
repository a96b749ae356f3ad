#include "autograd/noise.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "autograd/error.h"
#include "autograd/parallel.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace tandem {
namespace {

// Philox over kLanes blocks at once, one block per 64-bit lane. Only the low half of a lane counts: the
// multiplication reads nothing else, so a round is two of them, two shifts and two three-way xors.
#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
using Vec = uint64_t __attribute__((vector_size(8 * kLanes)));

// Low half times m, all 64 bits. By intrinsics since g++ takes a full 64-bit product for the plain
// expression, which costs 1.7x with AVX-512 and 4x without it.
inline Vec multiply_low(Vec a, uint32_t m) {
  const Vec b = Vec{} + m;
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);  // maskz: g++ 12 warns about the other
#elif defined(__AVX2__)
  return (Vec)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Vec)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xFFFFFFFFu) * b;
#endif
}

struct Stream {
  std::array<uint32_t, 2> key;
  std::array<uint32_t, 2> tail;  // counter[2] and counter[3]
};

Stream stream_of(NoiseKey key, uint32_t pass, uint64_t sample) {
  check<ValueError>(pass < kMaxPasses && sample < (uint64_t{1} << 48),
                    "noise: pass {} or sample {} out of range, expected pass < 2^16 and sample < 2^48", pass,
                    sample);
  return {{static_cast<uint32_t>(key.value), static_cast<uint32_t>(key.value >> 32)},
          {static_cast<uint32_t>(sample), pass | static_cast<uint32_t>(sample >> 32) << 16}};
}

std::array<uint32_t, 4> block_of(const Stream& stream, uint64_t block) {
  return philox4x32_10(
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream.tail[0], stream.tail[1]},
      stream.key);
}

constexpr int64_t kWords = 4 * kLanes;  // words of one vector of blocks

// The words of N * kLanes blocks from `first` on; N chains of rounds hide each other's latency.
template <int N> void draw_blocks(const Stream& stream, uint64_t first, uint32_t* out) {
  Vec c0[N], c1[N], c2[N], c3[N];
  Vec iota{};
  for (int lane = 0; lane < kLanes; ++lane) iota[lane] = static_cast<uint64_t>(lane);
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    c0[j] = iota + (first + static_cast<uint64_t>(j * kLanes));
    c1[j] = c0[j] >> 32;
    c2[j] = Vec{} + stream.tail[0];
    c3[j] = Vec{} + stream.tail[1];
  }
  auto [k0, k1] = stream.key;
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; ++round) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      const Vec p0 = multiply_low(c0[j], kPhiloxMultiplier[0]);
      const Vec p1 = multiply_low(c2[j], kPhiloxMultiplier[1]);
      c0[j] = (p1 >> 32) ^ c1[j] ^ static_cast<uint64_t>(k0);
      c2[j] = (p0 >> 32) ^ c3[j] ^ static_cast<uint64_t>(k1);
      c1[j] = p1;
      c3[j] = p0;
    }
    k0 += kPhiloxWeyl[0];
    k1 += kPhiloxWeyl[1];
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    const Vec low = (c0[j] & 0xFFFFFFFFu) | c1[j] << 32, high = (c2[j] & 0xFFFFFFFFu) | c3[j] << 32;
    static_assert(std::endian::native == std::endian::little, "a u64 holds its low word first");
    uint64_t words[2 * kLanes];
#pragma GCC unroll 8
    for (int lane = 0; lane < kLanes; ++lane) {
      words[2 * lane] = low[lane];
      words[2 * lane + 1] = high[lane];
    }
    std::memcpy(out + j * kWords, words, sizeof words);
  }
}

// 64 bits from the words 2 * position (low half) and 2 * position + 1.
uint64_t draw64(const Stream& stream, uint64_t position) {
  const auto words = block_of(stream, position / 2);
  const auto at = 2 * (position % 2);
  return words[at] | uint64_t{words[at + 1]} << 32;
}

double to_unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// The two normals of a pair of uniforms in [0, 1) (Box, Muller, 1958). 1 - u is in (0, 1]: no log of 0.
std::pair<double, double> box_muller(double u, double v) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - u)), angle = 2.0 * std::numbers::pi * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// Elements 2i and 2i + 1 of n are the pair f(u, v) of the uniforms of these positions.
template <class T, class F> void fill_pairs(NoiseKey key, T* out, int64_t n, F f) {
  constexpr int64_t kTile = 128;  // pairs, of four words each
  const Stream stream = stream_of(key, 0, 0);
  parallel_for((n + 1) / 2, 64 * kTile, [&](int64_t begin, int64_t end) {
    uint32_t words[4 * kTile];
    for (int64_t tile = begin; tile < end; tile += kTile) {
      const int64_t pairs = std::min(kTile, end - tile);
      for (int64_t i = 0; i < pairs; i += kLanes)
        draw_blocks<1>(stream, static_cast<uint64_t>(tile + i), words + 4 * i);
      for (int64_t i = 0; i < pairs; ++i) {
        const uint32_t* w = words + 4 * i;
        const auto [a, b] = f(to_unit(w[0] | uint64_t{w[1]} << 32), to_unit(w[2] | uint64_t{w[3]} << 32));
        const int64_t at = 2 * (tile + i);
        out[at] = static_cast<T>(a);
        if (at + 1 < n) out[at + 1] = static_cast<T>(b);
      }
    }
  });
}

// Uniforms in order, for rejection methods whose number of draws is not known.
struct Uniforms {
  Stream stream;
  uint64_t position = 0;
  double next() { return to_unit(draw64(stream, position++)); }
};

// log of a Gamma(shape, 1) variate.
double log_gamma_variate(Uniforms uniforms, double shape) {
  // Gamma(s) = Gamma(s + 1) * U^(1/s) for s < 1, where the method below does not hold.
  const double boost = shape < 1 ? std::log(1.0 - uniforms.next()) / shape : 0.0;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3.0, c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double u = uniforms.next(), w = uniforms.next(), accept = 1.0 - uniforms.next();
    const double x = box_muller(u, w).first, root = 1.0 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(accept) < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d * v) + boost;
  }
}

}  // namespace

uint32_t drop_threshold(double p) {
  check<ConfigError>(p >= 0 && p < 1, "drop rate: {} is out of range, expected 0 <= p < 1", p);
  return static_cast<uint32_t>(p * 0x1p32);
}

void draw(NoiseKey key, uint32_t pass, uint64_t sample, uint64_t position, int64_t count, uint32_t* out) {
  const Stream stream = stream_of(key, pass, sample);
  uint64_t block = position / 4;
  uint32_t edge[kWords];
  if (const auto skip = static_cast<int64_t>(position % 4); skip != 0 && count > 0) {
    const int64_t n = std::min(count, kWords - skip);
    draw_blocks<1>(stream, block, edge);
    std::copy_n(edge + skip, n, out);
    out += n, count -= n, block += kLanes;
  }
  for (; count >= 4 * kWords; out += 4 * kWords, count -= 4 * kWords, block += 4 * kLanes)
    draw_blocks<4>(stream, block, out);
  for (; count >= kWords; out += kWords, count -= kWords, block += kLanes) draw_blocks<1>(stream, block, out);
  if (count > 0) {
    draw_blocks<1>(stream, block, edge);
    std::copy_n(edge, count, out);
  }
}

uint32_t single_draw(NoiseKey key, uint32_t pass, uint64_t sample, uint64_t position) {
  return block_of(stream_of(key, pass, sample), position / 4)[position % 4];
}

double uniform(NoiseKey key, uint64_t sample, uint64_t position) {
  return to_unit(draw64(stream_of(key, 0, sample), position));
}

uint64_t bounded(NoiseKey key, uint64_t sample, uint64_t position, uint64_t n) {
  check<ValueError>(n > 0, "bounded: n is 0, expected at least 1");
  const uint64_t biased = -n % n;  // 2^64 mod n: so many low halves would be hit once too often
  for (uint32_t pass = 0;; ++pass) {
    __extension__ using u128 = unsigned __int128;
    const u128 product = static_cast<u128>(draw64(stream_of(key, pass, sample), position)) * n;
    if (static_cast<uint64_t>(product) >= biased) return static_cast<uint64_t>(product >> 64);
  }
}

template <class T> void fill_uniform(NoiseKey key, double low, double high, T* out, int64_t n) {
  check<ValueError>(std::isfinite(low) && std::isfinite(high) && low <= high,
                    "fill_uniform: bounds {} and {}, expected finite low <= high", low, high);
  const T last = std::nextafter(static_cast<T>(high), static_cast<T>(low));
  const auto value = [=](double u) { return std::min(static_cast<T>(low + (high - low) * u), last); };
  fill_pairs(key, out, n, [=](double u, double v) { return std::pair(value(u), value(v)); });
}

template <class T> void fill_normal(NoiseKey key, double mean, double stddev, T* out, int64_t n) {
  check<ValueError>(std::isfinite(mean) && std::isfinite(stddev) && stddev >= 0,
                    "fill_normal: mean {} and stddev {}, expected finite values and stddev >= 0", mean,
                    stddev);
  fill_pairs(key, out, n, [=](double u, double v) {
    const auto [a, b] = box_muller(u, v);
    return std::pair(mean + stddev * a, mean + stddev * b);
  });
}

template void fill_uniform(NoiseKey, double, double, float*, int64_t);
template void fill_uniform(NoiseKey, double, double, double*, int64_t);
template void fill_normal(NoiseKey, double, double, float*, int64_t);
template void fill_normal(NoiseKey, double, double, double*, int64_t);

std::vector<int64_t> permutation(NoiseKey key, int64_t n) {
  check<ValueError>(n >= 0, "permutation: n is {}, expected at least 0", n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (auto i = static_cast<uint64_t>(n); i-- > 1;) std::swap(order[i], order[bounded(key, 0, i, i + 1)]);
  return order;
}

double beta(NoiseKey key, uint64_t sample, double a, double b) {
  check<ConfigError>(a > 0 && b > 0 && std::isfinite(a) && std::isfinite(b),
                     "beta: a {} and b {}, expected positive finite values", a, b);
  const double log_x = log_gamma_variate({stream_of(key, 0, sample)}, a);
  const double log_y = log_gamma_variate({stream_of(key, 1, sample)}, b);
  return 1.0 / (1.0 + std::exp(log_y - log_x));
}

}  // namespace tandem
