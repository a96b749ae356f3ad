// Right kernels give right results in any order of blocks, warps and lanes, and nothing is reported.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>

#include "device_array.h"
#include "in_orders.h"
#include "kernels/good.h"
#include "sim.h"

namespace {

std::vector<float> random_floats(size_t count, unsigned seed = 1, float low = -2, float high = 2) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> result(count);
  for (float& value : result) value = distribution(engine);
  return result;
}

std::vector<int> random_ints(size_t count, int low, int high, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int> distribution(low, high);
  std::vector<int> result(count);
  for (int& value : result) value = distribution(engine);
  return result;
}

}  // namespace

TEST_CASE("good kernels: saxpy with a grid-stride loop") {
  const std::vector<float> x = random_floats(1000), y = random_floats(1000, 2);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(y);
    good::saxpy(1000, 1.5f, dx.data(), dy.data());
    const std::vector<float> result = dy.values();
    for (size_t i = 0; i < x.size(); ++i) CHECK(result[i] == std::fma(1.5f, x[i], y[i]));
  });
}

TEST_CASE("good kernels: strided reads") {
  const std::vector<float> x = random_floats(700);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(100);
    good::strided_copy(100, 7, dx.data(), dy.data());
    const std::vector<float> result = dy.values();
    for (size_t i = 0; i < 100; ++i) CHECK(result[i] == x[7 * i]);
  });
}

TEST_CASE("good kernels: sums by shared memory, by shuffles, by the last block") {
  std::vector<float> x(3000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17);  // sums are exact
  const float expected = std::accumulate(x.begin(), x.end(), 0.0f);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), out(5), total(1), partial(5);
    good::sum_blocks(3000, dx.data(), out.data(), 5);
    const std::vector<float> blocks = out.values();
    CHECK(std::accumulate(blocks.begin(), blocks.end(), 0.0f) == expected);
    good::sum_warps(3000, dx.data(), total.data());
    CHECK(total.values()[0] == expected);
    const DeviceArray<unsigned> counter(std::vector<unsigned>{0});
    good::sum_last_block(3000, dx.data(), partial.data(), counter.data(), total.data(), 5);
    CHECK(total.values()[0] == expected);
  });
}

TEST_CASE("good kernels: transpose of a matrix that is no multiple of its tiles") {
  const std::vector<float> x = random_floats(45 * 70);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(45 * 70);
    good::transpose(45, 70, dx.data(), dy.data());
    const std::vector<float> y = dy.values();
    for (size_t r = 0; r < 45; ++r) {
      for (size_t c = 0; c < 70; ++c) CHECK(y[c * 45 + r] == x[r * 70 + c]);
    }
  });
}

TEST_CASE("good kernels: histogram by atomics") {
  const std::vector<int> x = random_ints(2000, 0, 49);
  std::vector<int> expected(50);
  for (const int value : x) ++expected[static_cast<size_t>(value)];
  in_all_orders([&] {
    const DeviceArray<int> dx(x), bins(std::vector<int>(50));
    good::histogram(2000, dx.data(), bins.data(), 50);
    CHECK(bins.values() == expected);
  });
}

TEST_CASE("good kernels: dynamic shared memory") {
  const std::vector<float> x = random_floats(150);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(150);
    good::reverse_dynamic(150, dx.data(), dy.data());
    std::vector<float> y = dy.values();
    std::reverse(y.begin(), y.end());
    CHECK(y == x);
  });
}

TEST_CASE("good kernels: recursion to different depths") {
  const std::vector<int> x = random_ints(100, 0, 20);
  in_all_orders([&] {
    const DeviceArray<int> dx(x);
    const DeviceArray<double> dy(100);
    good::factorial(100, dx.data(), dy.data());
    const std::vector<double> y = dy.values();
    for (size_t i = 0; i < 100; ++i) CHECK(y[i] == doctest::Approx(std::tgamma(x[i] + 1.0)).epsilon(1e-14));
  });
}

TEST_CASE("good kernels: divergent loops") {
  const std::vector<int> x = random_ints(200, 1, 100000);
  in_all_orders([&] {
    const DeviceArray<int> dx(x), dy(200);
    good::collatz(200, dx.data(), dy.data());
    const std::vector<int> y = dy.values();
    for (size_t i = 0; i < 200; ++i) {
      int count = 0;
      for (long long v = x[i]; v != 1; ++count) v = v % 2 == 0 ? v / 2 : 3 * v + 1;
      CHECK(y[i] == count);
    }
  });
}

TEST_CASE("good kernels: 64-bit integers") {
  std::mt19937_64 engine(3);
  std::vector<uint64_t> x(200);
  for (uint64_t& value : x) value = engine() >> (engine() % 60);
  in_all_orders([&] {
    const DeviceArray<uint64_t> dx(x), dy(200);
    good::mix64(200, dx.data(), dy.data());
    const std::vector<uint64_t> y = dy.values();
    for (size_t i = 0; i < 200; ++i) {
      uint64_t v = x[i];
      v ^= v >> 30;
      v *= 0xbf58476d1ce4e5b9ull;
      v ^= v >> 27;
      v += static_cast<uint64_t>(static_cast<unsigned __int128>(v) * 0x94d049bb133111ebull >> 64);
      const auto s = static_cast<int64_t>(v);
      uint64_t reversed = 0;
      for (int k = 0; k < 64; ++k) reversed |= (v >> k & 1) << (63 - k);
      const uint64_t shifted = v << 7;
      const uint64_t expected = v / 1000003u + static_cast<uint64_t>(s / -7) * 31 +
                                static_cast<uint64_t>(s % 13) + static_cast<uint64_t>(std::popcount(v)) +
                                static_cast<uint64_t>(std::countl_zero(v >> 5)) + (reversed >> 3) +
                                (shifted == 0 ? 0 : static_cast<uint64_t>(std::countr_zero(shifted)) + 1);
      CHECK(y[i] == expected);
    }
  });
}

TEST_CASE("good kernels: bf16 by integers, there and back") {
  std::vector<float> x = random_floats(300, 4, -1e20f, 1e20f);
  x[0] = INFINITY;
  x[1] = 0x1.01p0f;  // halfway: to even
  x[2] = 0x1.03p0f;
  x[3] = -0.0f;
  in_all_orders([&] {
    const DeviceArray<float> dx(x), back(300);
    const DeviceArray<uint16_t> dy(300);
    good::to_bf16(300, dx.data(), dy.data());
    good::from_bf16(300, dy.data(), back.data());
    const std::vector<float> y = back.values();
    CHECK(y[0] == INFINITY);
    CHECK(y[1] == 1.0f);
    CHECK(y[2] == 0x1.04p0f);
    CHECK(std::signbit(y[3]));
    for (size_t i = 4; i < 300; ++i) CHECK(std::fabs(y[i] - x[i]) <= std::fabs(x[i]) / 256);
  });
}

TEST_CASE("good kernels: vector accesses") {
  const std::vector<float> x = random_floats(400);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(400);
    good::copy_vectors(400, dx.data(), dy.data());
    CHECK(dy.values() == x);
  });
}

TEST_CASE("good kernels: votes, matches and shuffles in segments") {
  const std::vector<int> x = random_ints(32, 0, 7);
  in_all_orders([&] {
    const DeviceArray<int> dx(x);
    const DeviceArray<uint32_t> out(6 * 32);
    good::votes(dx.data(), out.data());
    const std::vector<uint32_t> y = out.values();
    uint32_t above = 0, odd = 0, two = 0;
    for (size_t i = 0; i < 32; ++i) {
      above |= uint32_t{x[i] > 3} << i;
      odd |= static_cast<uint32_t>(x[i] & 1) << i;
      two |= static_cast<uint32_t>(x[i] >> 1 & 1) << i;
    }
    for (size_t i = 0; i < 32; ++i) {
      uint32_t equal = 0;
      for (size_t k = 0; k < 32; ++k) equal |= uint32_t{x[k] == x[i]} << k;
      CHECK(y[6 * i] == above);
      CHECK(y[6 * i + 1] == uint32_t{std::count(x.begin(), x.end(), 7) != 0});
      CHECK(y[6 * i + 2] == 1);
      CHECK(y[6 * i + 3] == equal);
      CHECK(y[6 * i + 4] == static_cast<uint32_t>(i % 16 < 5 ? x[i] : x[i - 5]));
      CHECK(y[6 * i + 5] == (i < 16 ? odd & 0xffffu : two & 0xffff0000u));
    }
  });
}

TEST_CASE("good kernels: a switch and integer functions") {
  std::vector<int> x = random_ints(512, INT32_MIN, INT32_MAX, 9);
  in_all_orders([&] {
    const DeviceArray<int> dx(x), dy(512);
    good::switches(512, dx.data(), dy.data());
    const std::vector<int> y = dy.values();
    for (size_t i = 0; i < 512; ++i) {
      const int v = x[i];
      const auto u = static_cast<uint32_t>(v);
      uint32_t expected = 0;
      switch (v & 15) {
        case 0:
          expected = u * 3 + 1;
          break;
        case 1:
          expected = static_cast<uint32_t>(v / 5);
          break;
        case 2:
          expected = static_cast<uint32_t>(v % 7);
          break;
        case 3:
          expected = ~u;
          break;
        case 4:
          expected = u << 3;
          break;
        case 5:
          expected = static_cast<uint32_t>(std::popcount(u));
          break;
        case 6:
          expected = static_cast<uint32_t>(std::countl_zero(u));
          break;
        case 7:
          for (int k = 0; k < 32; ++k) expected |= (u >> k & 1) << (31 - k);
          break;
        case 8: {
          const uint64_t bytes = uint64_t{77} << 32 | u;
          const uint32_t selector = 0x3210 + (u & 3);
          for (int k = 0; k < 4; ++k)
            expected |= static_cast<uint32_t>(bytes >> ((selector >> (4 * k) & 7) * 8) & 255) << (8 * k);
          break;
        }
        case 9:
          expected = static_cast<uint32_t>((uint64_t{3} << 32 | u) << (u & 31) >> 32);
          break;
        case 10:
          expected = static_cast<uint32_t>(static_cast<int64_t>(v) * 123456789 >> 32);
          break;
        default:
          expected = 0 - u;
      }
      CHECK(static_cast<uint32_t>(y[i]) == expected);
    }
  });
}

TEST_CASE("good kernels: atomic minimum and maximum, compare and swap") {
  const std::vector<float> x = random_floats(300);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), product(std::vector<float>{1.0f});
    const DeviceArray<int> out(std::vector<int>{INT32_MAX, INT32_MIN});
    good::minmax_atomics(300, dx.data(), out.data());
    const std::vector<int> y = out.values();
    const auto value = [](int bits) { return std::bit_cast<float>(bits < 0 ? bits ^ 0x7fffffff : bits); };
    CHECK(value(y[0]) == *std::min_element(x.begin(), x.end()));
    CHECK(value(y[1]) == *std::max_element(x.begin(), x.end()));
    const DeviceArray<float> twos(std::vector<float>(20, 2.0f));
    good::compare_and_swap(20, twos.data(), product.data());
    CHECK(product.values()[0] == 1048576.0f);
  });
}

TEST_CASE("good kernels: exchange within a warp by shared memory") {
  const std::vector<float> x = random_floats(64);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(64);
    good::warp_exchange(dx.data(), dy.data());
    const std::vector<float> y = dy.values();
    for (size_t i = 0; i < 64; ++i) CHECK(y[i] == 2 * x[i ^ 1 ^ 7]);
  });
}

TEST_CASE("good kernels: warps that wait for each other by atomics") {
  in_all_orders([&] {
    const DeviceArray<int> flag(std::vector<int>{0});
    good::spin(flag.data());
    CHECK(flag.values()[0] == 18);
  });
}

TEST_CASE("good kernels: barriers that count") {
  const std::vector<int> x = random_ints(96, 0, 5);
  in_all_orders([&] {
    const DeviceArray<int> dx(x), out(3);
    good::block_votes(96, dx.data(), out.data());
    const std::vector<int> y = out.values();
    CHECK(y[0] == std::count_if(x.begin(), x.end(), [](int v) { return v > 2; }));
    CHECK(y[1] != 0);
    CHECK(y[2] == 0);
  });
}

TEST_CASE("good kernels: local arrays with dynamic indices") {
  const std::vector<float> x = random_floats(100);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(100);
    good::structs(100, dx.data(), dy.data());
    const std::vector<float> y = dy.values();
    for (size_t i = 0; i < 100; ++i) {
      float sum = 0;
      for (size_t k = 0; k < 8; ++k) sum = std::fma(sum, 0.5f, x[i] * static_cast<float>((k * 5 + i) & 7));
      CHECK(y[i] == sum);
    }
  });
}

TEST_CASE("good kernels: constant memory and a device variable") {
  const std::vector<float> x = random_floats(100);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), dy(100);
    for (const float offset : {3.0f, -1.0f}) {
      good::set_offset(offset);
      good::constants(100, dx.data(), dy.data());
      const std::vector<float> y = dy.values();
      for (size_t i = 0; i < 100; ++i)
        CHECK(y[i] == std::fma(x[i], std::ldexp(1.0f, -static_cast<int>(i & 3)), offset));
    }
  });
}

TEST_CASE("every kernel of the tests decodes") { CHECK(cudasim::check_all_kernels() > 20); }
