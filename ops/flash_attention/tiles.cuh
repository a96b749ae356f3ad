// Tiles of rows in shared memory, as ldmatrix reads them, and what a block of threads is about.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/tensor_cores.cuh"
#include "ops/flash_attention/args.h"

namespace tandem::flash {

using namespace detail;
using cuda::LeftFactor;
using cuda::RightFactor;
using cuda::Sums;

inline constexpr int kWarps = 4, kThreads = 32 * kWarps;
inline constexpr int kRows = 16 * kWarps;  // of a block: queries, or for the gradients of k and v keys

// Which head of which item (sample of a pass), and which tile of its rows, the block works at.
struct Block {
  int pass, batch, head, first_row;
  int64_t sums;  // where those of the head begin

  // `backwards`: the last tiles first, which have the most work where attention is causal.
  __device__ Block(const FlashProblem& p, int64_t rows, bool backwards) {
    const auto tiles = static_cast<unsigned>((rows + kRows - 1) / kRows);
    unsigned rest = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    if (backwards) tile = tiles - 1 - tile;
    first_row = static_cast<int>(tile) * kRows;
    sums = static_cast<int64_t>(rest) * p.queries;
    head = static_cast<int>(rest % static_cast<unsigned>(p.heads)), rest /= static_cast<unsigned>(p.heads);
    batch = static_cast<int>(rest % static_cast<unsigned>(p.batch));
    pass = static_cast<int>(rest / static_cast<unsigned>(p.batch));
  }
  // The head's row, of one of the operands.
  template <class T> __device__ T* row(const HeadRows<T>& x, int row) const {
    return x.data + pass * x.pass + batch * x.batch + head * x.head + row * x.row;
  }
};

// Which keys of the block's sample are not seen by any query.
struct Ignored {
  const bool* data;
  int64_t step;
  __device__ Ignored(const FlashProblem& p, const Block& block)
      : data(p.ignored.data ? p.ignored.data + block.pass * p.ignored.pass + block.batch * p.ignored.batch
                            : nullptr),
        step(p.ignored.col) {}
  __device__ bool operator()(int key) const { return data && data[key * step]; }
};

// Rows of D bf16 in pieces of 16 bytes, which are permuted within a row so that the eight rows of a matrix
// lie in different banks: eight neighbours, or those that Lane::key() has.
template <int D> struct Tile {
  static constexpr int kPieces = D / 8;

  static __device__ uint32_t place(int row, int piece) {
    const int bits = (row >> 2 & 1) | ((row >> 1 ^ row >> 3) & 1) << 1 | (D % 64 == 0 ? (row & 1) << 2 : 0);
    return static_cast<uint32_t>(row * kPieces + (piece ^ bits)) * 16;
  }

  // Begins to copy `rows` rows, of which `count` are there and not `hidden`, and of each `columns`; the rest
  // is zeroes, so that a product with nothing is nothing whatever the memory holds.
  template <int rows, class Hidden>
  static __device__ void load(uint32_t to, const bf16* from, int64_t stride, int count, int columns,
                              const Hidden& hidden) {
    constexpr int kLanes = D == 96 ? 16 : kPieces,
                  kStep = kThreads / kLanes;  // rows at a time, of lanes each
    static_assert(kStep % 16 == 0 || kStep == 8);
    const int piece = threadIdx.x % kLanes, first = threadIdx.x / kLanes;
    const bool there = piece * 8 < columns;
    if (kLanes > kPieces && piece >= kPieces) return;
    from += first * stride + piece * 8;
#pragma unroll
    for (int row = 0; row < rows; row += kStep, from += kStep * stride) {
      const bool copies = there && first + row < count && !hidden(first + row);
      // Of `row`, place() looks at the lowest four bits alone.
      cuda::copy_async(to + place(first, piece ^ (row & 8 ? 2 : 0)) + row * kPieces * 16, from, !copies);
    }
  }
};

// A lane 4 g + q of a warp, and the rows of shared memory whose addresses it gives to ldmatrix: row `r` of
// matrix `m`.
struct Lane {
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  int m = threadIdx.x % 32 / 8, r = threadIdx.x % 8;

  // Sixteen rows as a left factor.
  template <int D> __device__ void left(LeftFactor& to, uint32_t tile, int first_row, int step) const {
    cuda::load_matrices(to.at, tile + Tile<D>::place(first_row + r + m % 2 * 8, step * 2 + m / 2));
  }
  // Of sixteen keys the two right factors of scores, and of what scores are multiplied by. Column 2 q + e of
  // the first is key 4 q + e, of the second key 4 q + 2 + e: so a lane has four keys in a row, of which
  // dropout's words are drawn at once, and scores are a left factor as they are.
  template <int D> __device__ void key_columns(uint32_t (&to)[4], uint32_t tile, int first, int step) const {
    cuda::load_matrices(to, tile + Tile<D>::place(first + key(m / 2), step * 2 + m % 2));
  }
  template <int D> __device__ void key_rows(uint32_t (&to)[4], uint32_t tile, int first, int step) const {
    cuda::load_transposed(to, tile + Tile<D>::place(first + key(m % 2), step * 2 + m / 2));
  }
  // The same of sixteen rows in their own order.
  template <int D> __device__ void columns(uint32_t (&to)[4], uint32_t tile, int first, int step) const {
    cuda::load_matrices(to, tile + Tile<D>::place(first + r + m / 2 * 8, step * 2 + m % 2));
  }
  template <int D> __device__ void rows(uint32_t (&to)[4], uint32_t tile, int first, int step) const {
    cuda::load_transposed(to, tile + Tile<D>::place(first + r + m % 2 * 8, step * 2 + m / 2));
  }

 private:
  __device__ int key(int second) const { return r / 2 * 4 + second * 2 + r % 2; }
};

// sums += left right, of which the columns are 16 to `right`.
__device__ inline void multiply_add(Sums& first, Sums& second, const LeftFactor& left,
                                    const uint32_t (&right)[4]) {
  cuda::multiply_add(first, left, {right[0], right[1]});
  cuda::multiply_add(second, left, {right[2], right[3]});
}

// Two tiles of sums as a left factor of bf16: of [16, 16] rows and columns.
__device__ inline LeftFactor rounded(const Sums& first, const Sums& second) {
  return {{cuda::pack_bf16(first.at[0], first.at[1]), cuda::pack_bf16(first.at[2], first.at[3]),
           cuda::pack_bf16(second.at[0], second.at[1]), cuda::pack_bf16(second.at[2], second.at[3])}};
}

// The warp's sixteen rows of sums, times factors of the lane's two rows, to memory in whole 16 bytes, by way
// of shared memory that is the warp's own: of its rows of a tile.
template <int D>
__device__ void store_rows(const Lane& lane, char* tile, const Sums (&sums)[D / 8], float factor,
                           float second_factor, bf16* to, int64_t stride, int count, int columns) {
  const int first = lane.warp * 16;
#pragma unroll
  for (int piece = 0; piece < D / 8; ++piece) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float f = half == 0 ? factor : second_factor;
      *reinterpret_cast<uint32_t*>(tile + Tile<D>::place(first + lane.g + half * 8, piece) + lane.q * 4) =
          cuda::pack_bf16(sums[piece].at[2 * half] * f, sums[piece].at[2 * half + 1] * f);
    }
  }
  __syncwarp();
#pragma unroll
  for (int k = 0; k < Tile<D>::kPieces / 2; ++k) {
    const int i = k * 32 + static_cast<int>(threadIdx.x % 32);
    const int row = first + i / Tile<D>::kPieces, piece = i % Tile<D>::kPieces;
    if (row < count && piece * 8 < columns)
      *reinterpret_cast<uint4*>(to + row * stride + piece * 8) =
          *reinterpret_cast<const uint4*>(tile + Tile<D>::place(row, piece));
  }
}

// The kernel may have so much dynamic shared memory from then on.
template <auto kernel> void allow_shared(int64_t bytes) {
  thread_local int64_t allowed = 48 * 1024 - cuda::kOwnShared;  // what every kernel has without asking
  if (bytes <= allowed) return;
  allowed = cuda::shared_limit();
  cuda::check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(allowed)),
              "cudaFuncSetAttribute");
}

// Launches a block for every 64 of `rows` rows of each head.
template <auto kernel, class Args> void launch(const Args& a, int64_t rows, int64_t shared_bytes) {
  const int64_t blocks = a.passes * a.batch * a.heads * ((rows + kRows - 1) / kRows);
  if (blocks == 0) return;
  allow_shared<kernel>(shared_bytes);
  cuda::launch<kernel>("attention", cuda::Grid{static_cast<unsigned>(blocks), kThreads, shared_bytes}, a);
}

// Calls f.operator()<D>() with the size of tiles that holds rows of `dim`.
template <class F> void with_dim(int dim, F f) {
  if (dim <= 32) {
    f.template operator()<32>();
  } else if (dim <= 64) {
    f.template operator()<64>();
  } else if (dim <= 96) {
    f.template operator()<96>();
  } else {
    f.template operator()<128>();
  }
}

}  // namespace tandem::flash
