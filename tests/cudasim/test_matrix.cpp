// Tensor cores, asynchronous copies and rounding to bf16 against plain references, and what is reported where
// they are used wrongly.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <random>

#include "in_orders.h"
#include "kernels/matrix.h"
#include "ptx/half.h"
#include "test_util.h"

namespace {

float from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
uint16_t to_bf16(float value) {
  if (std::isnan(value)) return 0x7fff;
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

std::vector<uint16_t> counted(size_t count) {
  std::vector<uint16_t> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = static_cast<uint16_t>(i);
  return result;
}
std::vector<float> floats(size_t count, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> result(count);
  for (float& value : result) value = distribution(engine);
  return result;
}
std::vector<uint16_t> halves(size_t count, unsigned seed, bool bf16) {
  std::vector<uint16_t> result;
  for (const float value : floats(count, seed))
    result.push_back(bf16 ? to_bf16(value) : cudasim::float_to_half(value));
  return result;
}

}  // namespace

TEST_CASE("matrix: a product of 16 x 16 and 16 x 8") {
  for (const bool bf16 : {true, false}) {
    const auto a = halves(256, 1, bf16), b = halves(128, 2, bf16);
    const auto c = floats(128, 3);
    const auto value = [&](uint16_t bits) { return bf16 ? from_bf16(bits) : cudasim::half_to_float(bits); };
    in_all_orders([&] {
      const DeviceArray<uint16_t> da(a), db(b);
      const DeviceArray<float> dc(c), out(128);
      matrix::multiply(bf16, da.data(), db.data(), dc.data(), out.data());
      const std::vector<float> sums = out.values();
      for (size_t i = 0; i < 16; ++i) {
        for (size_t j = 0; j < 8; ++j) {
          double sum = c[i * 8 + j];
          for (size_t k = 0; k < 16; ++k) sum += double{value(a[i * 16 + k])} * double{value(b[k * 8 + j])};
          REQUIRE(std::fabs(sums[i * 8 + j] - sum) < 1e-5);
        }
      }
    });
  }
}

TEST_CASE("matrix: what lanes get of matrices in shared memory") {
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      const auto x = counted(static_cast<size_t>(count) * 64);
      in_all_orders([&] {
        const DeviceArray<uint16_t> dx(x);
        const DeviceArray<uint32_t> out(static_cast<size_t>(count) * 32);
        matrix::load(count, transposed, dx.data(), out.data());
        const std::vector<uint32_t> got = out.values();
        for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
          for (uint32_t lane = 0; lane < 32; ++lane) {
            const uint32_t g = lane / 4, q = lane % 4 * 2;
            const uint32_t first = transposed ? q * 8 + g : g * 8 + q, step = transposed ? 8 : 1;
            REQUIRE(got[i * 32 + lane] == ((i * 64 + first + step) << 16 | (i * 64 + first)));
          }
        }
      });
    }
  }
}

TEST_CASE("matrix: a product through shared memory") {
  const auto a = halves(256, 1, true), b = halves(256, 2, true);
  in_all_orders([&] {
    const DeviceArray<uint16_t> da(a), db(b);
    const DeviceArray<float> out(256);
    matrix::multiply_tiles(da.data(), db.data(), out.data());
    const std::vector<float> product = out.values();
    for (size_t i = 0; i < 16; ++i) {
      for (size_t j = 0; j < 16; ++j) {
        double sum = 0;
        for (size_t k = 0; k < 16; ++k)
          sum += double{from_bf16(a[i * 16 + k])} * double{from_bf16(b[k * 16 + j])};
        REQUIRE(std::fabs(product[i * 16 + j] - sum) < 1e-5);
      }
    }
  });
}

TEST_CASE("matrix: the larger of two bf16 each, the number beside NaN") {
  const std::vector<float> values{0.0f, -0.0f, 1, -1, 3.5f, -260, INFINITY, -INFINITY, NAN, 1e-38f};
  std::vector<uint32_t> a, b;
  std::vector<float> expected;  // low, high
  const auto larger = [](float x, float y) { return std::isnan(x) ? y : std::isnan(y) ? x : std::max(x, y); };
  const auto pair = [](float low, float high) { return to_bf16(low) | uint32_t{to_bf16(high)} << 16; };
  for (const float x : values) {
    for (const float y : values) {
      a.push_back(pair(x, y)), b.push_back(pair(y, 2));
      expected.push_back(larger(x, y)), expected.push_back(larger(y, 2));
    }
  }
  in_all_orders([&] {
    const DeviceArray<uint32_t> da(a), db(b), out(a.size());
    matrix::max_pairs(static_cast<int>(a.size()), da.data(), db.data(), out.data());
    const auto got = out.values();
    for (size_t i = 0; i < expected.size(); ++i) {
      const float value = from_bf16(static_cast<uint16_t>(got[i / 2] >> 16 * (i % 2)));
      if (std::isnan(expected[i])) {
        REQUIRE(std::isnan(value));
      } else {
        REQUIRE(value == from_bf16(to_bf16(expected[i])));
      }
    }
  });
}

TEST_CASE("matrix: rounding to bf16, alone and in pairs") {
  std::vector<float> x = floats(200);
  for (const float special :
       {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 3.4e38f, 1e-40f, 1.00390625f, 1.01171875f})
    x.push_back(special);
  x.push_back(1);
  const int n = static_cast<int>(x.size());
  in_all_orders([&] {
    const DeviceArray<float> dx(x);
    const DeviceArray<uint32_t> pairs(x.size() / 2);
    const DeviceArray<uint16_t> single(x.size());
    matrix::round_pairs(n / 2, dx.data(), pairs.data());
    matrix::round_single(n, dx.data(), single.data());
    const auto two = pairs.values();
    const auto one = single.values();
    for (size_t i = 0; i < x.size(); ++i) {
      REQUIRE(one[i] == to_bf16(x[i]));
      REQUIRE((two[i / 2] >> 16 * (i % 2) & 0xffff) == to_bf16(x[i]));
    }
  });
}

TEST_CASE("matrix: copies of each size, of which a part is zeroes") {
  for (const int bytes : {4, 8, 16}) {
    for (const int used : {0, 3, bytes / 2, bytes}) {
      const size_t words = 64 * static_cast<size_t>(bytes) / 4;
      std::vector<uint32_t> x(words);
      for (size_t i = 0; i < words; ++i) x[i] = 0x01010101u * static_cast<uint32_t>(1 + i % 200);
      in_all_orders([&] {
        const DeviceArray<uint32_t> dx(x), y(words);
        matrix::copy(bytes, used, dx.data(), y.data());
        const auto got = y.values();
        for (size_t i = 0; i < words * 4; ++i) {
          const uint32_t byte = got[i / 4] >> i % 4 * 8 & 255;
          const bool read = i % static_cast<size_t>(bytes) < static_cast<size_t>(used);
          REQUIRE(byte == (read ? 1 + i / 4 % 200 : 0));
        }
      });
    }
  }
}

TEST_CASE("matrix: copies that go on beside the computation") {
  const auto x = floats(64 * 5);
  in_all_orders([&] {
    const DeviceArray<float> dx(x), y(64);
    matrix::sum_pipelined(5, dx.data(), y.data());
    const auto sums = y.values();
    for (size_t i = 0; i < 64; ++i) {
      float sum = 0;
      for (size_t tile = 0; tile < 5; ++tile) sum += x[tile * 64 + i];
      REQUIRE(sums[i] == sum);
    }
  });
}

TEST_CASE("matrix: a device of an earlier compute capability has no such kernels") {
  const Restore restore;
  cudasim::options().arch = 75;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f)), y(64);
  matrix::sum_pipelined(1, x.data(), y.data());
  CHECK(cudaGetLastError() == cudaErrorNoKernelImageForDevice);
}

TEST_CASE("seeded bugs: asynchronous copies") {
  const DeviceArray<float> x(std::vector<float>(64 * 4, 1.0f)), few(std::vector<float>(64, 1.0f)), y(64);
  SUBCASE("not waited for") {
    finds("uninitialised read", [&] { matrix::wait_missing(x.data(), y.data()); });
  }
  SUBCASE("one group fewer waited for") {
    finds("uninitialised read", [&] { matrix::wait_for_fewer(4, x.data(), y.data()); });
  }
  SUBCASE("waited for as a group that was not committed") {
    finds("uninitialised read", [&] { matrix::commit_missing(x.data(), y.data()); });
  }
  SUBCASE("of other threads, without a barrier") {
    finds("race", [&] { matrix::barrier_missing(x.data(), y.data()); });
  }
  SUBCASE("to where others still read") {
    finds("race", [&] { matrix::barrier_before_reuse(4, x.data(), y.data()); });
  }
  SUBCASE("to where something is written before they are there") {
    finds("race", [&] { matrix::write_before_wait(x.data(), y.data()); });
  }
  SUBCASE("not there when the thread exits") {
    finds("race", [&] { matrix::exit_before_wait(x.data(), y.data()); });
  }
  SUBCASE("to a place that is not aligned") {
    finds("misaligned", [&] { matrix::copy_misaligned(x.data(), y.data()); });
  }
  SUBCASE("from behind the end") {
    finds("out of bounds", [&] { matrix::copy_behind(few.data(), y.data()); });
  }
}

TEST_CASE("seeded bugs: matrices") {
  const DeviceArray<uint16_t> x(std::vector<uint16_t>(256, 1));
  const DeviceArray<uint32_t> out(128);
  const DeviceArray<float> sums(32);
  SUBCASE("a row that is not aligned") {
    finds("misaligned", [&] { matrix::row_misaligned(x.data(), out.data()); });
  }
  SUBCASE("a row behind the end") {
    finds("out of bounds", [&] { matrix::row_behind(x.data(), out.data()); });
  }
  SUBCASE("rows of other lanes, not synchronised") {
    finds("race", [&] { matrix::row_of_neighbour(x.data(), out.data()); });
  }
  SUBCASE("a product without half of the warp") {
    finds("warp collective", [&] { matrix::multiply_by_half(x.data(), sums.data()); });
  }
}
