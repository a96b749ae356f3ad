// Draws of noise and what becomes of them, in few instructions: for kernels that do little else.
#pragma once

#include "cuda/divisor.cuh"
#include "cuda/map.cuh"
#include "ops/loops/device_noise.h"

namespace tandem::cuda {

// DeviceNoise::Draws with the keys of all rounds, which stay in registers.
class RoundDraws {
 public:
  __device__ explicit RoundDraws(const detail::DeviceNoise& noise) : draws_(noise.draws()) {
    constexpr uint32_t w0 = kPhiloxWeyl[0], w1 = kPhiloxWeyl[1];
#pragma unroll
    for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
      keys_[round][0] = draws_.key[0] + round * w0, keys_[round][1] = draws_.key[1] + round * w1;
      // Or else they are added up again for each block.
      asm volatile("" : "+r"(keys_[round][0]), "+r"(keys_[round][1]));
    }
  }

  // The words at positions 4 b to 4 b + 3, as of DeviceNoise::Draws.
  __device__ std::array<uint32_t, 4> block(uint32_t pass, uint64_t sample, uint64_t b) const {
    const uint64_t s = draws_.first_sample + sample;
    std::array<uint32_t, 4> c{static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32), static_cast<uint32_t>(s),
                              (draws_.first_pass + pass) | static_cast<uint32_t>(s >> 32) << 16};
#pragma unroll
    for (int round = 0; round < kPhiloxRounds; ++round) c = philox_round(c, keys_[round][0], keys_[round][1]);
    return c;
  }

 private:
  detail::DeviceNoise::Draws draws_;
  uint32_t keys_[kPhiloxRounds][2];
};

// The vector at an aligned address, as what it is computed in: of bf16, halves of words become words.
template <int V, class T> __device__ Vector<compute_t<T>, V> wide_vector(const T* p) {
  Vector<compute_t<T>, V> result;
  if constexpr (std::is_same_v<T, bf16> && V % 2 == 0) {
    const auto words = std::bit_cast<Vector<uint32_t, V / 2>>(load_vector<V>(p));
#pragma unroll
    for (int v = 0; v < V; ++v)
      result.at[v] = __uint_as_float(v % 2 ? words.at[v / 2] & 0xffff0000u : words.at[v / 2] << 16);
  } else {
    const Vector<T, V> values = load_vector<V>(p);
#pragma unroll
    for (int v = 0; v < V; ++v) result.at[v] = values.at[v];
  }
  return result;
}

// Rounds to T; bf16 in pairs where one instruction does.
template <class T, int V> __device__ Vector<T, V> narrow(const Vector<compute_t<T>, V>& values) {
  Vector<T, V> result;
#if __CUDA_ARCH__ >= 800
  constexpr bool in_pairs = std::is_same_v<T, bf16> && V % 2 == 0;
#else
  constexpr bool in_pairs = false;
#endif
  if constexpr (in_pairs) {
    Vector<uint32_t, V / 2> pairs;
#pragma unroll
    for (int v = 0; v < V / 2; ++v)
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
          : "=r"(pairs.at[v])
          : "f"(values.at[2 * v + 1]), "f"(values.at[2 * v]));
    result = std::bit_cast<Vector<T, V>>(pairs);
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) result.at[v] = values.at[v];
  }
  return result;
}

// x scaled where the draws of its positions, from 4 b on, reach the threshold; 0 elsewhere, whatever x is.
template <int V, class C>
__device__ Vector<C, V> keep_or_drop(const Vector<C, V>& x, const RoundDraws& draws, uint32_t pass,
                                     uint64_t sample, uint64_t b, uint32_t threshold, C scale) {
  Vector<C, V> result;
#pragma unroll
  for (int v = 0; v < V; v += 4) {
    const std::array<uint32_t, 4> words = draws.block(pass, sample, b + v / 4);
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const C scaled = x.at[v + w] * scale;
      result.at[v + w] = words[w] >= threshold ? scaled : C(0);
    }
  }
  return result;
}

}  // namespace tandem::cuda
