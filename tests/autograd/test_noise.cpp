#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "autograd/parallel.h"

using namespace tandem;

namespace {

constexpr NoiseKey kKey = noise_key(1, 2, site_hash("a.b"), 3, Purpose::dropout);

// |observed - expected| in standard deviations of the mean of n draws.
double sigmas(double observed, double expected, double variance, double n) {
  return std::abs(observed - expected) / std::sqrt(variance / n);
}

template <class Fill> void check_thread_independent(Fill fill) {
  const int threads = num_threads();
  const int64_t n = 100'003;
  std::vector<double> one(n), four(n);
  set_num_threads(1);
  fill(one.data(), n);
  set_num_threads(4);
  fill(four.data(), n);
  set_num_threads(threads);
  CHECK(std::memcmp(one.data(), four.data(), n * sizeof(double)) == 0);
}

}  // namespace

TEST_CASE("philox4x32_10 gives the published known answers of Random123") {
  using Block = std::array<uint32_t, 4>;
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the counter is laid out as documented") {
  const NoiseKey key{0x1122334455667788};
  const uint64_t sample = 0xABCD'1234'5678, position = (uint64_t{7} << 34) + 4 * 9 + 2;
  const auto block = philox4x32_10({9, 7, 0x12345678, 0xABCD'0005}, {0x55667788, 0x11223344});
  CHECK(single_draw(key, 5, sample, position) == block[2]);
  uint32_t word;
  draw(key, 5, sample, position, 1, &word);
  CHECK(word == block[2]);
}

TEST_CASE("key derivation and words are frozen: checkpoints and seeds of the past stay valid") {
  CHECK(site_hash("encoder.3.attn.drop") == 0xf3a5e78c4641e65eu);
  CHECK(noise_key(0, 0, 0, 0, Purpose::dropout).value == 0x107fec4104b6cabfu);
  const NoiseKey key = noise_key(42, 1000, site_hash("encoder.3.attn.drop"), 1, Purpose::word_dropout);
  CHECK(key.value == 0x2ab694d35b6c8f36u);
  CHECK(single_draw(key, 2, 77, 12345) == 0x66ec7b4fu);
}

TEST_CASE("draw from any start gives the single draws, and writes no further") {
  for (const uint64_t base : {uint64_t{0}, uint64_t{1} << 20, (uint64_t{1} << 34) - 40}) {
    for (uint64_t skip = 0; skip < 5; ++skip) {
      for (const int64_t count : {0, 1, 2, 3, 4, 5, 31, 32, 33, 65, 127, 128, 129, 300}) {
        CAPTURE(base);
        CAPTURE(skip);
        CAPTURE(count);
        std::vector<uint32_t> words(count + 1, 0xDEADBEEF);
        draw(kKey, 3, 11, base + skip, count, words.data());
        bool same = true;
        for (int64_t i = 0; i < count; ++i) same &= words[i] == single_draw(kKey, 3, 11, base + skip + i);
        CHECK(same);
        CHECK(words[count] == 0xDEADBEEF);
      }
    }
  }
}

TEST_CASE("passes and samples beyond the counter are errors") {
  CHECK_NOTHROW(single_draw(kKey, 65535, (uint64_t{1} << 48) - 1, 0));
  CHECK_THROWS_AS(single_draw(kKey, 65536, 0, 0), ValueError);
  uint32_t word;
  CHECK_THROWS_WITH_AS(
      draw(kKey, 0, uint64_t{1} << 48, 0, 1, &word),
      "noise: pass 0 or sample 281474976710656 out of range, expected pass < 2^16 and sample "
      "< 2^48",
      ValueError);
}

TEST_CASE("streams that differ in one coordinate differ") {
  std::set<std::string> streams;
  const auto add = [&](NoiseKey key, uint32_t pass, uint64_t sample) {
    std::string bytes(64, '\0');
    uint32_t words[16];
    draw(key, pass, sample, 0, 16, words);
    std::memcpy(bytes.data(), words, 64);
    return streams.insert(bytes).second;
  };
  CHECK(add(noise_key(1, 1, 1, 1, Purpose::dropout), 0, 0));
  CHECK_FALSE(add(noise_key(1, 1, 1, 1, Purpose::dropout), 0, 0));
  for (uint64_t other : {uint64_t{0}, uint64_t{2}, uint64_t{1} << 32, uint64_t{1} << 63}) {
    CHECK(add(noise_key(other, 1, 1, 1, Purpose::dropout), 0, 0));
    CHECK(add(noise_key(1, other, 1, 1, Purpose::dropout), 0, 0));
    CHECK(add(noise_key(1, 1, other, 1, Purpose::dropout), 0, 0));
  }
  for (uint32_t other : {0u, 2u, 1u << 31}) CHECK(add(noise_key(1, 1, 1, other, Purpose::dropout), 0, 0));
  for (uint32_t other = 1; other < 8; ++other) CHECK(add(noise_key(1, 1, 1, 1, Purpose{other}), 0, 0));
  for (uint32_t other : {1u, 2u, 65535u}) CHECK(add(noise_key(1, 1, 1, 1, Purpose::dropout), other, 0));
  for (uint64_t other : {uint64_t{1}, uint64_t{65536}, uint64_t{1} << 32, uint64_t{1} << 47})
    CHECK(add(noise_key(1, 1, 1, 1, Purpose::dropout), 0, other));
}

TEST_CASE("masks of neighbouring streams are uncorrelated") {
  const int64_t n = 1 << 18;
  std::vector<uint32_t> a(n), b(n);
  const auto agreement = [&](NoiseKey key, uint32_t pass, uint64_t sample) {
    draw(key, pass, sample, 0, n, b.data());
    int64_t equal = 0;
    for (int64_t i = 0; i < n; ++i) equal += (a[i] >> 31) == (b[i] >> 31);
    return sigmas(double(equal) / n, 0.5, 0.25, n);
  };
  const auto key = [](uint64_t seed, uint64_t step) { return noise_key(seed, step, 9, 0, Purpose::dropout); };
  draw(key(5, 6), 0, 0, 0, n, a.data());
  CHECK(agreement(key(5, 6), 1, 0) < 5);
  CHECK(agreement(key(5, 6), 0, 1) < 5);
  CHECK(agreement(key(5, 7), 0, 0) < 5);
  CHECK(agreement(key(6, 5), 0, 0) < 5);
}

TEST_CASE("drop_threshold at the edges") {
  CHECK(drop_threshold(0.0) == 0);
  CHECK(drop_threshold(0.5) == 0x80000000u);
  CHECK(drop_threshold(0.1) == 429496729u);
  CHECK(drop_threshold(0x1p-33) == 0);
  CHECK(drop_threshold(0x1p-32) == 1);
  CHECK(drop_threshold(std::nextafter(1.0, 0.0)) == 0xFFFFFFFFu);
  CHECK_THROWS_WITH_AS(drop_threshold(1.0), "drop rate: 1 is out of range, expected 0 <= p < 1", ConfigError);
  CHECK_THROWS_AS(drop_threshold(-0x1p-60), ConfigError);
  CHECK_THROWS_AS(drop_threshold(std::numeric_limits<double>::infinity()), ConfigError);
  CHECK_THROWS_WITH_AS(drop_threshold(std::nan("")), "drop rate: nan is out of range, expected 0 <= p < 1",
                       ConfigError);
}

TEST_CASE("the share of kept values is 1 - p within 5 sigma") {
  const int64_t n = 1 << 20;
  std::vector<uint32_t> words(n);
  uint32_t pass = 0;
  for (const double p : {0.001, 0.1, 0.3, 0.5, 0.9, 0.999}) {
    draw(kKey, pass++, 4, 1, n, words.data());
    const auto kept = std::count_if(words.begin(), words.end(),
                                    [t = drop_threshold(p)](uint32_t word) { return word >= t; });
    CHECK(sigmas(double(kept) / n, 1 - p, p * (1 - p), n) < 5);
  }
}

TEST_CASE_TEMPLATE("dropout_row keeps and scales by the draws", T, float, double, bf16) {
  const uint32_t threshold = drop_threshold(0.3);
  const compute_t<T> scale = 1 / compute_t<T>(0.7);
  for (const int64_t count : {1, 65, 512, 1500}) {
    std::vector<T> x(count), y(count);
    for (int64_t i = 0; i < count; ++i) x[i] = T(compute_t<T>(i + 1) / 8);
    x[0] = T(std::numeric_limits<float>::quiet_NaN());
    dropout_row(kKey, 1, 2, 33, count, threshold, scale, x.data(), y.data());
    for (int64_t i = 0; i < count; ++i) {
      const bool keep = single_draw(kKey, 1, 2, 33 + i) >= threshold;
      const T expected = T(keep ? compute_t<T>(x[i]) * scale : compute_t<T>(0));
      CHECK(std::memcmp(&y[i], &expected, sizeof(T)) == 0);
    }
    dropout_row(kKey, 1, 2, 33, count, threshold, scale, x.data(), x.data());
    CHECK(std::memcmp(x.data(), y.data(), count * sizeof(T)) == 0);
  }
  std::vector<T> x(3, T(2)), y(3);
  dropout_row(kKey, 0, 0, 0, 3, 0, compute_t<T>(1.5), x.data(), y.data());
  CHECK(float(y[0]) == 3);
  CHECK(float(y[2]) == 3);
}

TEST_CASE("the factor of what is kept makes the expectation x for every rate") {
  for (double p :
       {0.0, 0x1p-40, 0x1p-33, 0x1p-32, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9, 1 - 1e-12, std::nextafter(1.0, 0.0)}) {
    CAPTURE(p);
    CHECK((1 - 0x1p-32 * drop_threshold(p)) * kept_scale(p) == doctest::Approx(1).epsilon(1e-15));
    if (p >= 0x1p-32 && p <= 0.9) CHECK(kept_scale(p) == doctest::Approx(1 / (1 - p)).epsilon(3e-9));
  }
  CHECK(kept_scale(0x1p-40) == 1);
  CHECK(kept_scale(0.5) == 2);
  CHECK(kept_scale(1 - 1e-12) == 0x1p32);
}

TEST_CASE("a dropped NaN is 0") {
  std::vector<float> x(64, std::numeric_limits<float>::quiet_NaN()), y(64);
  dropout_row(kKey, 0, 0, 0, 64, drop_threshold(0.5), 2.0f, x.data(), y.data());
  const auto zeros = std::count(y.begin(), y.end(), 0.0f);
  CHECK(zeros > 0);
  CHECK(zeros < 64);
}

TEST_CASE("fill_uniform: elements are uniform(), moments, bounds, f32 is f64 rounded") {
  const int64_t n = 1'000'001;
  std::vector<double> u(n);
  fill_uniform(kKey, 0.0, 1.0, u.data(), n);
  double sum = 0, squares = 0;
  for (const double value : u) sum += value, squares += value * value;
  CHECK(*std::min_element(u.begin(), u.end()) >= 0);
  CHECK(*std::max_element(u.begin(), u.end()) < 1);
  CHECK(sigmas(sum / n, 0.5, 1.0 / 12, n) < 5);
  CHECK(sigmas(squares / n, 1.0 / 3, 4.0 / 45, n) < 5);
  for (const int64_t i : {int64_t{0}, int64_t{1}, int64_t{12'345}, n - 1}) CHECK(u[i] == uniform(kKey, 0, i));

  std::vector<float> f(n);
  fill_uniform(kKey, 0.0, 1.0, f.data(), n);
  CHECK(f[777] == float(u[777]));
  fill_uniform(kKey, 1.0, 1.0 + 0x1p-23, f.data(), 100);  // half of the exact values round to the upper bound
  CHECK(std::count(f.begin(), f.begin() + 100, 1.0f) == 100);
  fill_uniform(kKey, 3.0, 3.0, f.data(), 2);
  CHECK(f[1] == 3.0f);
  CHECK_THROWS_AS(fill_uniform(kKey, 1.0, 0.0, f.data(), 1), ValueError);
  CHECK_THROWS_AS(fill_uniform(kKey, 0.0, std::nan(""), f.data(), 1), ValueError);
}

TEST_CASE("fill_normal: moments, tails, scale, f32 is f64 rounded") {
  const int64_t n = 1'000'001;
  std::vector<double> x(n);
  fill_normal(kKey, 0.0, 1.0, x.data(), n);
  double moments[5] = {}, neighbours = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(x[i], k) / n;
    if (i > 0) neighbours += x[i] * x[i - 1] / (n - 1);
  }
  CHECK(sigmas(moments[1], 0, 1, n) < 5);
  CHECK(sigmas(moments[2], 1, 2, n) < 5);
  CHECK(sigmas(moments[3], 0, 15, n) < 5);
  CHECK(sigmas(moments[4], 3, 96, n) < 5);
  CHECK(sigmas(neighbours, 0, 1, n - 1) < 5);
  const auto inner = std::count_if(x.begin(), x.end(), [](double v) { return std::abs(v) < 1; });
  const double share = std::erf(std::sqrt(0.5));
  CHECK(sigmas(double(inner) / n, share, share * (1 - share), n) < 5);

  std::vector<double> shifted(n);
  fill_normal(kKey, 3.0, 0.5, shifted.data(), n);
  CHECK(shifted[9] == doctest::Approx(3.0 + 0.5 * x[9]).epsilon(1e-12));
  std::vector<float> f(7);
  fill_normal(kKey, 0.0, 1.0, f.data(), 7);
  for (int i = 0; i < 7; ++i) CHECK(f[i] == float(x[i]));
  CHECK_THROWS_AS(fill_normal(kKey, 0.0, -1.0, f.data(), 1), ValueError);
}

TEST_CASE("fills do not depend on the number of threads") {
  check_thread_independent([](double* x, int64_t n) { fill_uniform(kKey, -1.0, 1.0, x, n); });
  check_thread_independent([](double* x, int64_t n) { fill_normal(kKey, 0.0, 1.0, x, n); });
}

TEST_CASE("bounded is in range and without bias, also where most of a naive draw is biased") {
  const int64_t n = 60'000;
  int64_t counts[6] = {};
  for (int64_t i = 0; i < n; ++i) ++counts[bounded(kKey, 1, i, 6)];
  for (const int64_t count : counts) CHECK(sigmas(double(count) / n, 1.0 / 6, 5.0 / 36, n) < 5);

  // n = 3 * 2^62: a plain multiply-shift would give the multiples of 3 twice the weight of the others.
  const uint64_t wide = uint64_t{3} << 62;
  int64_t residues[3] = {};
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t value = bounded(kKey, 2, i, wide);
    CHECK_UNARY(value < wide);
    ++residues[value % 3];
  }
  for (const int64_t count : residues) CHECK(sigmas(double(count) / n, 1.0 / 3, 2.0 / 9, n) < 5);
  CHECK(bounded(kKey, 0, 0, 1) == 0);
  CHECK_THROWS_AS(bounded(kKey, 0, 0, 0), ValueError);
}

TEST_CASE("permutation holds every index once, depends on the key, and is uniform") {
  const auto order = permutation(kKey, 1000);
  CHECK(std::set<int64_t>(order.begin(), order.end()).size() == 1000);
  CHECK(*std::min_element(order.begin(), order.end()) == 0);
  CHECK(*std::max_element(order.begin(), order.end()) == 999);
  CHECK(order == permutation(kKey, 1000));
  CHECK(order != permutation(noise_key(1, 3, 0, 0, Purpose::shuffle), 1000));
  CHECK(permutation(kKey, 0).empty());
  CHECK(permutation(kKey, 1) == std::vector<int64_t>{0});
  CHECK_THROWS_AS(permutation(kKey, -1), ValueError);

  const int64_t n = 48'000;
  int64_t counts[24] = {};  // all orders of 4
  for (int64_t step = 0; step < n; ++step) {
    const auto p = permutation(noise_key(7, step, 0, 0, Purpose::shuffle), 4);
    const int64_t rank0 = p[0], rank1 = p[1] - (p[1] > p[0]), rank2 = p[2] > p[3];
    ++counts[rank0 * 6 + rank1 * 2 + rank2];
  }
  for (const int64_t count : counts) CHECK(sigmas(double(count) / n, 1.0 / 24, 23.0 / 576, n) < 5);
}

TEST_CASE("beta has the moments of Beta(a, b)") {
  const int64_t n = 100'000;
  for (const auto& shapes : {std::pair{0.2, 0.2}, {1.0, 1.0}, {0.5, 2.0}, {3.0, 1.5}, {20.0, 20.0}}) {
    const double a = shapes.first, b = shapes.second;
    CAPTURE(a);
    CAPTURE(b);
    double mean = 0, second = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double x = beta(kKey, i, a, b);
      CHECK_UNARY(x >= 0 && x <= 1);
      mean += x / n;
      second += x * x / n;
    }
    const double s = a + b;
    double moment[5] = {1};  // E x^k
    for (int k = 0; k < 4; ++k) moment[k + 1] = moment[k] * (a + k) / (s + k);
    CHECK(sigmas(mean, moment[1], moment[2] - moment[1] * moment[1], n) < 5);
    CHECK(sigmas(second, moment[2], moment[4] - moment[2] * moment[2], n) < 5);
  }
  const double tiny = beta(kKey, 0, 1e-4, 1e-4);  // both gammas underflow in plain arithmetic
  CHECK_UNARY(tiny >= 0 && tiny <= 1);
  CHECK(beta(kKey, 5, 0.2, 0.2) == beta(kKey, 5, 0.2, 0.2));
  CHECK_THROWS_AS(beta(kKey, 0, 0.0, 1.0), ConfigError);
  CHECK_THROWS_AS(beta(kKey, 0, 1.0, std::nan("")), ConfigError);
}
