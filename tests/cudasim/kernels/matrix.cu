#include "matrix.h"

#include "cuda/tensor_cores.cuh"

namespace matrix {
namespace {

using namespace tandem::cuda;

__device__ uint32_t pair(const uint16_t* x, int low, int high) { return uint32_t{x[high]} << 16 | x[low]; }

template <bool bf16>
__global__ void multiply_kernel(const uint16_t* a, const uint16_t* b, const float* c, float* out) {
  const int g = threadIdx.x / 4, q = threadIdx.x % 4 * 2;
  LeftFactor left;
  RightFactor right;
  Sums sums;
  for (int i = 0; i < 4; ++i) {
    const int at = (g + i % 2 * 8) * 16 + q + i / 2 * 8;
    left.at[i] = pair(a, at, at + 1);
    sums.at[i] = c[(g + i / 2 * 8) * 8 + q + i % 2];
  }
  for (int i = 0; i < 2; ++i) right.at[i] = pair(b, (q + i * 8) * 8 + g, (q + 1 + i * 8) * 8 + g);
  if constexpr (bf16) {
    multiply_add(sums, left, right);
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums.at[0]), "+f"(sums.at[1]), "+f"(sums.at[2]), "+f"(sums.at[3])
        : "r"(left.at[0]), "r"(left.at[1]), "r"(left.at[2]), "r"(left.at[3]), "r"(right.at[0]),
          "r"(right.at[1]));
  }
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + q + i % 2] = sums.at[i];
}

template <int count, bool transposed> __global__ void load_kernel(const uint16_t* x, uint32_t* out) {
  __shared__ __align__(16) uint16_t rows[32 * 8];
  for (int i = 0; i < 8 * count; ++i) {
    if (threadIdx.x < 8) rows[i * 8 + threadIdx.x] = x[i * 8 + threadIdx.x];
  }
  __syncwarp();
  const uint32_t row = shared_address(rows + threadIdx.x % (8 * count) * 8);
  uint32_t to[4] = {};
  if constexpr (count == 1 && !transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(row));
  if constexpr (count == 1 && transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(row));
  if constexpr (count == 2 && !transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(row));
  if constexpr (count == 2 && transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(row));
  if constexpr (count == 4 && !transposed) load_matrices(to, row);
  if constexpr (count == 4 && transposed) load_transposed(to, row);
  for (int i = 0; i < count; ++i) out[i * 32 + threadIdx.x] = to[i];
}

__global__ void multiply_tiles_kernel(const uint16_t* a, const uint16_t* b, float* out) {
  __shared__ __align__(16) uint16_t left[16 * 16], right[16 * 16];
  const int lane = threadIdx.x;
  copy_async(shared_address(left + lane * 8), a + lane * 8, false);
  copy_async(shared_address(right + lane * 8), b + lane * 8, false);
  wait_for_copies();
  __syncwarp();
  LeftFactor l;
  uint32_t r[4];
  load_matrices(l.at, shared_address(left + (lane % 16) * 16 + lane / 16 * 8));
  load_transposed(r, shared_address(right + (lane % 16) * 16 + lane / 16 * 8));
  for (int half = 0; half < 2; ++half) {
    Sums sums;
    multiply_add(sums, l, {r[2 * half], r[2 * half + 1]});
    for (int i = 0; i < 4; ++i)
      out[(lane / 4 + i / 2 * 8) * 16 + half * 8 + lane % 4 * 2 + i % 2] = sums.at[i];
  }
}

__global__ void round_pairs_kernel(int n, const float* x, uint32_t* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
}
__global__ void round_single_kernel(int n, const float* x, uint16_t* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x[i]));
  out[i] = bits;
}

__global__ void max_pairs_kernel(int n, const uint32_t* a, const uint32_t* b, uint32_t* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = max_bf16(a[i], b[i]);
}

template <int bytes> __device__ void copy_some(uint32_t to, const void* from, int used) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "n"(bytes), "r"(used)
               : "memory");
}
template <int bytes> __global__ void copy_kernel(int used, const uint32_t* x, uint32_t* y) {
  __shared__ __align__(16) uint32_t room[64 * 4];
  constexpr int words = bytes / 4;
  copy_some<bytes>(shared_address(room + threadIdx.x * words), x + threadIdx.x * words, used);
  wait_for_copies();
  for (int i = 0; i < words; ++i) y[threadIdx.x * words + i] = room[threadIdx.x * words + i];
}

__device__ void copy_float(const float* to, const float* from) { copy_some<4>(shared_address(to), from, 4); }
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int left> __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }

// Each thread adds what its neighbours' copies brought.
template <bool waits, bool second_barrier>
__global__ void sum_pipelined_kernel(int tiles, const float* x, float* y) {
  __shared__ float room[2][64];
  const int i = threadIdx.x;
  const auto start = [&](int tile) {
    if (tile < tiles) copy_float(&room[tile % 2][i], x + tile * 64 + i);
    commit();
  };
  float sum = 0;
  start(0);
  for (int tile = 0; tile < tiles; ++tile) {
    start(tile + 1);
    waits ? wait<1>() : wait<2>();
    __syncthreads();
    sum += room[tile % 2][63 - i];
    if (second_barrier) __syncthreads();
  }
  y[63 - i] = sum;
}

enum class Mistake { wait, commit, barrier, write, exit, misaligned, behind };
template <Mistake mistake> __global__ void wrong_copy_kernel(const float* x, float* y) {
  __shared__ __align__(16) float room[68];
  const int i = threadIdx.x;
  if constexpr (mistake == Mistake::misaligned) {
    if (i < 16) copy_async(shared_address(room + i * 4 + 1), x + i * 4, false);
  } else if constexpr (mistake == Mistake::behind) {
    copy_float(room + i, x + i + 1);
  } else {
    copy_float(room + i, x + i);
  }
  if (mistake != Mistake::commit) commit();
  if (mistake == Mistake::write) room[i] = 0;
  if (mistake == Mistake::exit) return;
  if (mistake != Mistake::wait) wait<0>();
  if (mistake != Mistake::barrier) __syncthreads();
  y[i] = room[63 - i];
}

enum class RowMistake { misaligned, behind, neighbour };
template <RowMistake mistake> __global__ void wrong_row_kernel(const uint16_t* x, uint32_t* out) {
  __shared__ __align__(16) uint16_t rows[32 * 8];
  const int lane = threadIdx.x;
  *reinterpret_cast<uint4*>(rows + lane * 8) = *reinterpret_cast<const uint4*>(x + lane * 8);
  if (mistake != RowMistake::neighbour) __syncwarp();
  int at = lane * 8;
  if (mistake == RowMistake::misaligned) at = lane * 7;
  if (mistake == RowMistake::behind) at += 8;
  uint32_t to[4];
  load_matrices(to, shared_address(rows + at));
  for (int i = 0; i < 4; ++i) out[i * 32 + lane] = to[i];
}

__global__ void multiply_by_half_kernel(const uint16_t* x, float* out) {
  if (threadIdx.x >= 16) return;
  Sums sums;
  multiply_add(sums, {x[threadIdx.x], 1, 2, 3}, {4, 5});
  out[threadIdx.x] = sums.at[0];
}

}  // namespace

void multiply(bool bf16, const uint16_t* a, const uint16_t* b, const float* c, float* out) {
  if (bf16) {
    multiply_kernel<true><<<1, 32>>>(a, b, c, out);
  } else {
    multiply_kernel<false><<<1, 32>>>(a, b, c, out);
  }
}
void load(int count, bool transposed, const uint16_t* x, uint32_t* out) {
  if (transposed) {
    (count == 1   ? load_kernel<1, true>
     : count == 2 ? load_kernel<2, true>
                  : load_kernel<4, true>)<<<1, 32>>>(x, out);
  } else {
    (count == 1   ? load_kernel<1, false>
     : count == 2 ? load_kernel<2, false>
                  : load_kernel<4, false>)<<<1, 32>>>(x, out);
  }
}
void multiply_tiles(const uint16_t* a, const uint16_t* b, float* out) {
  multiply_tiles_kernel<<<1, 32>>>(a, b, out);
}
void round_pairs(int n, const float* x, uint32_t* out) {
  round_pairs_kernel<<<(n + 63) / 64, 64>>>(n, x, out);
}
void max_pairs(int n, const uint32_t* a, const uint32_t* b, uint32_t* out) {
  max_pairs_kernel<<<(n + 63) / 64, 64>>>(n, a, b, out);
}
void round_single(int n, const float* x, uint16_t* out) {
  round_single_kernel<<<(n + 63) / 64, 64>>>(n, x, out);
}
void copy(int bytes, int used, const uint32_t* x, uint32_t* y) {
  (bytes == 4 ? copy_kernel<4> : bytes == 8 ? copy_kernel<8> : copy_kernel<16>)<<<1, 64>>>(used, x, y);
}
void sum_pipelined(int tiles, const float* x, float* y) {
  sum_pipelined_kernel<true, true><<<1, 64>>>(tiles, x, y);
}

void wait_missing(const float* x, float* y) { wrong_copy_kernel<Mistake::wait><<<1, 64>>>(x, y); }
void wait_for_fewer(int tiles, const float* x, float* y) {
  sum_pipelined_kernel<false, true><<<1, 64>>>(tiles, x, y);
}
void commit_missing(const float* x, float* y) { wrong_copy_kernel<Mistake::commit><<<1, 64>>>(x, y); }
void barrier_missing(const float* x, float* y) { wrong_copy_kernel<Mistake::barrier><<<1, 64>>>(x, y); }
void barrier_before_reuse(int tiles, const float* x, float* y) {
  sum_pipelined_kernel<true, false><<<1, 64>>>(tiles, x, y);
}
void write_before_wait(const float* x, float* y) { wrong_copy_kernel<Mistake::write><<<1, 64>>>(x, y); }
void exit_before_wait(const float* x, float* y) { wrong_copy_kernel<Mistake::exit><<<1, 64>>>(x, y); }
void copy_misaligned(const float* x, float* y) { wrong_copy_kernel<Mistake::misaligned><<<1, 64>>>(x, y); }
void copy_behind(const float* x, float* y) { wrong_copy_kernel<Mistake::behind><<<1, 64>>>(x, y); }
void row_misaligned(const uint16_t* x, uint32_t* out) {
  wrong_row_kernel<RowMistake::misaligned><<<1, 32>>>(x, out);
}
void row_behind(const uint16_t* x, uint32_t* out) { wrong_row_kernel<RowMistake::behind><<<1, 32>>>(x, out); }
void row_of_neighbour(const uint16_t* x, uint32_t* out) {
  wrong_row_kernel<RowMistake::neighbour><<<1, 32>>>(x, out);
}
void multiply_by_half(const uint16_t* x, float* out) { multiply_by_half_kernel<<<1, 32>>>(x, out); }

}  // namespace matrix
