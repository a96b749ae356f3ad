// All randomness as pure functions: a value is a function of what it is for, never of what was drawn before.
//
//   key     = noise_key(seed, optimizer step, site, call, purpose)
//   counter = (pass, sample, position), see below
//   value   = Philox4x32-10(counter, key)
//
// So a mask need not be stored (the backward draws it again), and noise is the same on every device, for any
// number of passes, threads, micro-batches and ranks, and after a resume.
//
// The counter of one Philox block (four u32 words; `position` p is word p % 4 of block p / 4):
//   counter[0] = low 32 bits of p / 4        counter[2] = low 32 bits of the sample
//   counter[1] = high 32 bits of p / 4       counter[3] = pass | (sample >> 32) << 16
// Hence pass < kMaxPasses and sample < 2^48; anything larger is a ValueError.
//
// Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "autograd/dtype.h"

namespace tandem {

inline constexpr int kMaxPasses = 1 << 16;  // of a step: what a counter has room for

// The constants of the generator.
inline constexpr uint32_t kPhiloxMultiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
inline constexpr uint32_t kPhiloxWeyl[2] = {0x9E3779B9u, 0xBB67AE85u};
inline constexpr int kPhiloxRounds = 10;

// A round of Philox4x32 with its key. The constants are the function's own: nvcc turns a namespace's array
// elements, read in a kernel, into a trap.
constexpr std::array<uint32_t, 4> philox_round(const std::array<uint32_t, 4>& c, uint32_t key0,
                                               uint32_t key1) {
  constexpr uint32_t m0 = kPhiloxMultiplier[0], m1 = kPhiloxMultiplier[1];
  const uint64_t p0 = uint64_t{c[0]} * m0, p1 = uint64_t{c[2]} * m1;
  return {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(p0)};
}

// One block of Philox4x32-10.
constexpr std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> c, std::array<uint32_t, 2> key) {
  constexpr uint32_t w0 = kPhiloxWeyl[0], w1 = kPhiloxWeyl[1];
  for (int round = 0; round < kPhiloxRounds; ++round) {
    c = philox_round(c, key[0], key[1]);
    key = {key[0] + w0, key[1] + w1};
  }
  return c;
}

// What a stream is for. The numbers are part of the key: append, never renumber.
enum class Purpose : uint32_t {
  dropout = 0,
  drop_path = 1,
  layer_drop = 2,
  word_dropout = 3,
  mixup = 4,
  augmentation = 5,
  shuffle = 6,
  init = 7,
  sampling = 8,
  maker = 9,  // rand() and its like
};

// The Philox key of one stream: key[0] is the low half, key[1] the high half.
struct NoiseKey {
  uint64_t value = 0;  // both halves
  constexpr bool operator==(const NoiseKey&) const = default;
};

// The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection in which every input bit reaches
// every output bit.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// The site of a module or parameter: a hash of its path ("encoder.3.attn.drop"), FNV-1a and then mix64.
constexpr uint64_t site_hash(std::string_view path) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix64(hash);
}

// The key of the stream of one call: `step` is the optimizer step, `site` a site_hash, `call` the number of
// the site's call within one forward. The four words (call and purpose share one) are absorbed in turn,
//   h <- mix64(h ^ mix64(word + i * golden ratio)),   i = 1..4
// a bijection of each word while the others are fixed: streams that differ in one word have different keys.
// Mixing the word before the xor keeps small seeds and small steps from cancelling.
constexpr NoiseKey noise_key(uint64_t seed, uint64_t step, uint64_t site, uint32_t call, Purpose purpose) {
  const uint64_t words[4] = {seed, step, site, uint64_t{call} | static_cast<uint64_t>(purpose) << 32};
  uint64_t h = 0, golden = 0;
  for (const uint64_t word : words) h = mix64(h ^ mix64(word + (golden += 0x9E3779B97F4A7C15u)));
  return {h};
}

// floor(p * 2^32) for a drop rate p in [0, 1): keep iff draw >= threshold. ConfigError otherwise (also NaN).
uint32_t drop_threshold(double p);
// What kept values are multiplied by: 1 / the probability with which draws reach that threshold, so that the
// expectation is x for every p. It is 1 / (1 - p) but for the rounding of p to a multiple of 2^-32: below
// that, nothing is dropped and the factor is 1.
inline double kept_scale(double p) { return 0x1p32 / (0x1p32 - drop_threshold(p)); }

// The words at positions position .. position + count of (key, pass, sample); any start, any count >= 0.
void draw(NoiseKey key, uint32_t pass, uint64_t sample, uint64_t position, int64_t count, uint32_t* out);
// The word at one position: what draw() gives there.
uint32_t single_draw(NoiseKey key, uint32_t pass, uint64_t sample, uint64_t position);

// y[i] = draw at position + i >= threshold ? x[i] * scale : 0, for i in [0, count); x == y is allowed.
// A dropped value is 0 whatever x was (also NaN). Threshold 0 keeps everything and draws nothing.
template <class T>
void dropout_row(NoiseKey key, uint32_t pass, uint64_t sample, uint64_t position, int64_t count,
                 uint32_t threshold, compute_t<T> scale, const T* x, T* y) {
  using C = compute_t<T>;
  if (threshold == 0) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) y[i] = static_cast<C>(x[i]) * scale;
    return;
  }
  constexpr int64_t kTile = 512;  // 2 KiB of words: they stay in the first level cache
  alignas(64) uint32_t words[kTile];
  for (int64_t begin = 0; begin < count; begin += kTile) {
    const int64_t n = std::min(kTile, count - begin);
    draw(key, pass, sample, position + static_cast<uint64_t>(begin), n, words);
    const T* from = x + begin;
    T* to = y + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const C scaled = static_cast<C>(from[i]) * scale;  // outside of the select, so that it vectorises
      to[i] = words[i] >= threshold ? scaled : C(0);
    }
  }
}

// A 53-bit uniform in [0, 1) from the words 2 * position and 2 * position + 1 of pass 0.
double uniform(NoiseKey key, uint64_t sample, uint64_t position);

// An integer uniform in [0, n), without bias (Lemire, "Fast random integer generation in an interval", ACM
// TOMACS 2019). It reads the same words as uniform(); a rejected try reads them again in the next pass.
// ValueError if n == 0.
uint64_t bounded(NoiseKey key, uint64_t sample, uint64_t position, uint64_t n);

// Element i is low + (high - low) * uniform(key, 0, i), computed in f64; always below high once rounded
// (unless low == high). T is float or double. ValueError unless low <= high are finite.
template <class T> void fill_uniform(NoiseKey key, double low, double high, T* out, int64_t n);

// Elements 2j and 2j + 1 are the two Box-Muller normals of uniform(key, 0, 2j) and uniform(key, 0, 2j + 1),
// computed in f64. T is float or double. ValueError unless mean and stddev >= 0 are finite.
template <class T> void fill_normal(NoiseKey key, double mean, double stddev, T* out, int64_t n);

// A uniform permutation of 0 .. n-1 (Fisher-Yates; step i draws at position i). ValueError if n < 0.
std::vector<int64_t> permutation(NoiseKey key, int64_t n);

// Beta(a, b) in [0, 1] for one sample, from two gamma variates (Marsaglia, Tsang, "A simple method for
// generating gamma variables", ACM TOMS 2000; in logarithms, so that small a and b do not underflow to 0/0).
// ConfigError unless a and b are positive and finite.
double beta(NoiseKey key, uint64_t sample, double a, double b);

}  // namespace tandem
