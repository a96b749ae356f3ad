// The logits of a unit in the shared memory of a device: all classes, or a tile of some, of all passes; and
// how a block goes over them.
#pragma once

#include <limits>
#include <type_traits>

#include "cuda/rows.cuh"
#include "cuda/tensor_cores.cuh"
#include "ops/rdrop/kernel.h"

namespace tandem::cuda {

// How units are laid out in shared memory.
struct TileLayout {
  int columns;   // of a tile; a multiple of 16 bytes where there are several
  int pitch;     // from a pass of the tile to the next, in elements: a multiple of 16 bytes
  bool vectors;  // rows may be read and written 16 bytes at a time
  char* states;  // for many passes: memory for the states of each block; or null
};

// What is known of one pass of the unit.
template <class C> struct PassState {
  double sum, inner, total;                 // over the tiles so far: of e, of e (x - mean x), of the logits
  double tile_sum, tile_inner, tile_total;  // of the last tile
  double ce;
  double ce_weight, kl_weight;           // in the gradient
  C max, before, tile_max, tile_before;  // largest logit: of all classes, of those before the label
  C label;                               // the label's logit
  C log_sum, offset, p_weight;           // log_sum: times Exponential::kUnit
};

// e^x of x * kUnit: in f32 one instruction, whose result is 0 where it is not a normal number.
template <class C> struct Exponential {
  static constexpr C kUnit = 1;
  __device__ static C of(C x) { return exp(x); }
};
template <> struct Exponential<float> {
  static constexpr float kUnit = 1.4426950408889634f;
  __device__ static float of(float x) { return fast_exp2(x); }
};

// Copies 16 bytes from global memory to shared memory; where the device can, beside the computation, until
// wait_for_copies().
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
inline constexpr bool kAsync = true;
#else
inline constexpr bool kAsync = false;
#endif
template <class T> __device__ void copy_vector(T* to, const T* from) {
  if constexpr (kAsync) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
  } else {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
  }
}

// Some classes of all passes.
template <class T> struct LogitTile {
  using C = compute_t<T>;
  T* data;
  int pitch;

  __device__ T* row(int pass) const { return data + pass * pitch; }
  __device__ C logit(int pass, int column) const { return static_cast<C>(row(pass)[column]); }
  template <int W> __device__ Vector<T, W> vector(int pass, int column) const {
    return load_vector<W>(row(pass) + column);
  }
  template <int W> __device__ Vector<C, W> logits(int pass, int column) const {
    const Vector<T, W> narrow = vector<W>(pass, column);
    Vector<C, W> wide;
    if constexpr (std::is_same_v<T, bf16> && W > 1) {  // two of them without a move between
      const auto pairs = std::bit_cast<Vector<uint32_t, W / 2>>(narrow);
#pragma unroll
      for (int w = 0; w < W; w += 2) {
        wide.at[w] = __uint_as_float(pairs.at[w / 2] << 16);
        wide.at[w + 1] = __uint_as_float(pairs.at[w / 2] & 0xffff0000);
      }
    } else {
#pragma unroll
      for (int w = 0; w < W; ++w) wide.at[w] = static_cast<C>(narrow.at[w]);
    }
    return wide;
  }
};

// The largest of a thread's logits.
template <class T> struct Largest {
  compute_t<T> largest = -std::numeric_limits<compute_t<T>>::infinity();

  Largest() = default;
  template <int W> __device__ explicit Largest(const Vector<T, W>& values) : largest(values.at[0]) {
#pragma unroll
    for (int w = 1; w < W; ++w) largest = max(largest, static_cast<compute_t<T>>(values.at[w]));
  }
  __device__ void add(const Largest& other) { largest = max(largest, other.largest); }
  __device__ compute_t<T> value() const { return largest; }
};
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <> struct Largest<bf16> {
  uint32_t pair = 0xff80ff80;  // -inf twice

  Largest() = default;
  template <int W> __device__ explicit Largest(const Vector<bf16, W>& values) {
    if constexpr (W == 1) {
      pair = values.at[0].bits | 0xff800000;
    } else {
      const auto pairs = std::bit_cast<Vector<uint32_t, W / 2>>(values);
      pair = pairs.at[0];
#pragma unroll
      for (int w = 1; w < W / 2; ++w) pair = max_bf16(pair, pairs.at[w]);
    }
  }
  __device__ void add(const Largest& other) { pair = max_bf16(pair, other.pair); }
  __device__ float value() const {
    return max(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000));
  }
};
#endif

// Stores to global or shared memory.
template <class T, int W> __device__ void store(T* to, const Vector<compute_t<T>, W>& values) {
  Vector<T, W> narrow;
  if constexpr (std::is_same_v<T, bf16> && W > 1 && kAsync) {
    Vector<uint32_t, W / 2> pairs;
#pragma unroll
    for (int w = 0; w < W; w += 2) pairs.at[w / 2] = pack_bf16(values.at[w], values.at[w + 1]);
    narrow = std::bit_cast<Vector<T, W>>(pairs);
  } else {
#pragma unroll
    for (int w = 0; w < W; ++w) narrow.at[w] = values.at[w];
  }
  using Word = typename WordOf<sizeof(T) * W>::type;
  *reinterpret_cast<Word*>(to) = std::bit_cast<Word>(narrow);
}

// What x_i - mean_j x_j is for M passes.
template <class C, int M> __device__ void deviations(const C (&x)[M], C (&deviation)[M]) {
  if constexpr (M == 2) {
    const C half = (x[1] - x[0]) * C(0.5);
    deviation[0] = -half, deviation[1] = half;
  } else {
    C mean = 0;
#pragma unroll
    for (int i = 0; i < M; ++i) mean += x[i] * (C(1) / C(M));
#pragma unroll
    for (int i = 0; i < M; ++i) deviation[i] = x[i] - mean;
  }
}

template <int W> using Classes = std::integral_constant<int, W>;

// Calls f(Classes<W>, c) for the classes c, c + 1, .. c + W - 1 that are this thread's among n: W = V of them
// as long as there are so many, or `singly`.
template <int threads, int V, class F> __device__ void each_class(int n, bool singly, F f) {
  int done = 0;
  if constexpr (V > 1) {
    if (!singly) {
#pragma unroll 1
      for (int k = threadIdx.x; k < n / V; k += threads) f(Classes<V>(), k * V);
      done = n / V * V;
    }
  }
#pragma unroll 1
  for (int c = done + static_cast<int>(threadIdx.x); c < n; c += threads) f(Classes<1>(), c);
}

}  // namespace tandem::cuda
