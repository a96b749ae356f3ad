// Division by a number that a kernel is launched with: a multiplication and a shift. (A division of 64 bits
// is a call, around which registers are spilled.)
#pragma once

#include <bit>
#include <cstdint>

namespace tandem::cuda {

// Granlund, Montgomery, "Division by invariant integers using multiplication", PLDI 1994, figure 4.1 with 64
// bits: i / size = (high(i * magic) + i) >> shift; the sum does not overflow since i < 2^63.
struct Divisor {
  int64_t size = 1;
  uint64_t magic = 1;
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t s) : size(s), shift(std::bit_width(static_cast<uint64_t>(s - 1))) {
    __extension__ using u128 = unsigned __int128;
    const u128 rest = (u128{1} << shift) - static_cast<u128>(s);
    magic = static_cast<uint64_t>((rest << 64) / static_cast<u128>(s)) + 1;
  }

  // i = i / size; the remainder is returned. For i >= 0.
  __device__ int64_t divide(int64_t& i) const {
    const auto n = static_cast<uint64_t>(i);
    const auto quotient = static_cast<int64_t>((__umul64hi(n, magic) + n) >> shift);
    const int64_t rest = i - quotient * size;
    i = quotient;
    return rest;
  }
};

// The same of numbers below 2^31, with 32 bits: a quarter of the instructions.
struct SmallDivisor {
  uint32_t size = 1, magic = 1;
  int shift = 0;

  SmallDivisor() = default;
  explicit SmallDivisor(uint32_t s) : size(s), shift(std::bit_width(s - 1)) {
    const uint64_t rest = (uint64_t{1} << shift) - s;
    magic = static_cast<uint32_t>((rest << 32) / s) + 1;
  }

  // i = i / size; the remainder is returned.
  __device__ uint32_t divide(uint32_t& i) const {
    const uint32_t quotient = (__umulhi(i, magic) + i) >> shift, rest = i - quotient * size;
    i = quotient;
    return rest;
  }
};

}  // namespace tandem::cuda
