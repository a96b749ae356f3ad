// Sums down the columns of matrices: the second stage of sums that were first made over chunks of rows.
#pragma once

#include "cuda/launch.cuh"
#include "ops/loops/column_sums.h"

namespace tandem::cuda {

// out[k][g][j] = sum over c of in[k][g][c][j] for k in {0, 1}, g < groups, c < count, j < n: dense, and
// always added in the same order.
template <class A> struct ColumnSums {
  const A* in[2];
  A* out[2];
  int64_t groups, count, n;
};

inline constexpr int kColumnTile = 32;

template <class A>
__global__ void __launch_bounds__(kColumnTile* kColumnTile) column_sums_kernel(ColumnSums<A> sums) {
  __shared__ A parts[kColumnTile][kColumnTile + 1];
  const int column = static_cast<int>(threadIdx.x) % kColumnTile,
            part = static_cast<int>(threadIdx.x) / kColumnTile;
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kColumnTile + column, g = blockIdx.y;
  const A* in = (blockIdx.z == 0 ? sums.in[0] : sums.in[1]) + g * sums.count * sums.n + j;
  wide_t<A> total = 0;
  if (j < sums.n) {
#pragma unroll 4
    for (int64_t c = part; c < sums.count; c += kColumnTile) total += in[c * sums.n];
  }
  parts[part][column] = static_cast<A>(total);
  __syncthreads();
  // Transposed, so that a warp adds the parts of one column.
  A sum = parts[column][part];
#pragma unroll
  for (int step = kColumnTile / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  const int64_t own = static_cast<int64_t>(blockIdx.x) * kColumnTile + part;
  if (column == 0 && own < sums.n) (blockIdx.z == 0 ? sums.out[0] : sums.out[1])[g * sums.n + own] = sum;
}

// outputs: 1 or 2.
template <class A> void column_sums(const ColumnSums<A>& sums, int outputs) {
  if (sums.n == 0 || sums.groups == 0) return;
  const dim3 grid(static_cast<unsigned>((sums.n + kColumnTile - 1) / kColumnTile),
                  static_cast<unsigned>(sums.groups), static_cast<unsigned>(outputs));
  launch<column_sums_kernel<A>>("column_sums", Grid{grid, kColumnTile * kColumnTile}, sums);
}

}  // namespace tandem::cuda
