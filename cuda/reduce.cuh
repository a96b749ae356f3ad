// Reductions among the threads of a warp or a block, and loops over rows: what row-wise kernels (sums,
// softmax, norms, losses) are made of. Values meet in a fixed order, so results are the same bits in every
// run.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/launch.cuh"
#include "cuda/map.cuh"

namespace tandem::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

// The value of another thread, of any plain type of whole words: `shuffle` gets each of them.
template <class A, class Shuffle> __device__ A shuffle_words(const A& value, Shuffle shuffle) {
  static_assert(sizeof(A) % 4 == 0);
  struct Words {
    uint32_t at[sizeof(A) / 4];
  };
  Words words = std::bit_cast<Words>(value);
#pragma unroll
  for (uint32_t& word : words.at) word = shuffle(word);
  return std::bit_cast<A>(words);
}
// Of the thread whose lane differs in the bits of `mask`.
template <class A> __device__ A shuffle_xor(const A& value, int mask) {
  return shuffle_words(value, [=](uint32_t word) { return __shfl_xor_sync(kWholeWarp, word, mask); });
}
// Of the thread `distance` lanes below; its own in the lowest ones.
template <class A> __device__ A shuffle_up(const A& value, int distance) {
  return shuffle_words(value, [=](uint32_t word) { return __shfl_up_sync(kWholeWarp, word, distance); });
}

// combine() of the values of `lanes` neighbours, a power of two up to 32; every one of them gets it. combine
// is commutative. All threads of the warp must call it.
template <int lanes = kWarp, class A, class Combine> __device__ A warp_reduce(A value, Combine combine) {
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) value = combine(value, shuffle_xor(value, step));
  return value;
}

// The same for all `threads` of a block, a power of two up to 1024. All of them must call it.
template <int threads = kThreads, class A, class Combine>
__device__ A block_reduce(A value, Combine combine) {
  value = warp_reduce(value, combine);
  if constexpr (threads > kWarp) {
    constexpr int warps = threads / kWarp;
    __shared__ A parts[warps];
    __syncthreads();  // parts may still be read, by the call before
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = warp_reduce<warps>(parts[threadIdx.x % warps], combine);
  }
  return value;
}

// The sum of the values of the threads of a block before this one, and of all in `total`. All of them must
// call it.
template <int threads = kThreads, class A> __device__ A block_sum_before(A value, A& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  __shared__ A totals[threads / kWarp];
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const A below = shuffle_up(value, step);
    if (lane >= step) value += below;
  }
  __syncthreads();  // totals may still be read, by the call before
  if (lane == kWarp - 1) totals[warp] = value;
  __syncthreads();
  A before = 0;
  total = 0;
#pragma unroll
  for (int w = 0; w < threads / kWarp; ++w) {
    if (w == warp) before = total;
    total += totals[w];
  }
  const A below = shuffle_up(value, 1);
  return lane == 0 ? before : before + below;
}

struct Add {
  template <class A> __device__ A operator()(A a, A b) const { return a + b; }
};
struct Larger {  // NaN if one of them is
  template <class A> __device__ A operator()(A a, A b) const { return b > a || b != b ? b : a; }
};

template <int threads = kThreads, class A> __device__ A block_sum(A value) {
  return block_reduce<threads>(value, Add{});
}

// The threads that work on one row: `size` of them, a power of two. Up to a warp, a block of kThreads has
// several teams; beyond, a block is one team of `size` threads.
template <int size> struct Team {
  static_assert(std::has_single_bit(static_cast<unsigned>(size)) && size <= 1024);
  static constexpr int kSize = size;
  static constexpr int kBlock = size > kWarp ? size : kThreads;  // threads
  static constexpr int kRows = kBlock / size;                    // rows that a block works on at once

  __device__ static int rank() { return static_cast<int>(threadIdx.x) % size; }

  template <class A, class Combine> __device__ static A reduce(A value, Combine combine) {
    if constexpr (size > kWarp) {
      return block_reduce<size>(value, combine);
    } else {
      return warp_reduce<size>(value, combine);
    }
  }
  template <class A> __device__ static A sum(A value) { return reduce(value, Add{}); }
  template <class A> __device__ static A max(A value) { return reduce(value, Larger{}); }

  // Calls body(row, live) in all threads of the team for each of its rows, in a grid of any number of blocks.
  // Where a warp has several teams, the last of them may have no row: live is false then, and row is one that
  // is there (to be read, not written), since reductions need the whole warp.
  template <class Body> __device__ static void for_each_row(int64_t rows, Body body) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * kRows;
    for (int64_t base = static_cast<int64_t>(blockIdx.x) * kRows; base < rows; base += step) {
      const int64_t row = base + threadIdx.x / size;
      if constexpr (size >= kWarp) {
        if (row < rows) body(row, true);
      } else {
        body(row < rows ? row : rows - 1, row < rows);
      }
    }
  }

  // Calls body(i) for the indices 0 .. n-1, the team's threads taking neighbours.
  template <class Body> __device__ static void for_each(int64_t n, Body body) {
    for (int64_t i = rank(); i < n; i += size) body(i);
  }

  // Blocks of kBlock threads that loop over rows.
  static ResidentBlocks<kBlock> blocks_for(int64_t rows, int64_t shared_bytes = 0) {
    return {(rows + kRows - 1) / kRows, shared_bytes};
  }
};

// Calls f.template operator()<size>() with the team for rows of n pieces of work (16 bytes each, mostly).
template <class F> void with_team(int64_t n, F&& f) {
  if (n <= 16) {
    f.template operator()<8>();
  } else if (n <= 512) {
    f.template operator()<kWarp>();
  } else {
    f.template operator()<kThreads>();
  }
}

// Whether rows of n elements of these operands, which lie one behind the other, can be read and written V
// elements at a time.
template <int V, class... T> bool takes_row_vectors(int64_t n, const T*... operands) {
  return n % V == 0 && (... && (reinterpret_cast<uintptr_t>(operands) % (V * sizeof(T)) == 0));
}

}  // namespace tandem::cuda
