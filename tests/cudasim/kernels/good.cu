#include "good.h"

namespace good {
namespace {

unsigned grid_for(int n, int block) { return static_cast<unsigned>((n + block - 1) / block); }

__global__ void saxpy_kernel(int n, float a, const float* x, float* y) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    y[i] = a * x[i] + y[i];
}

__global__ void strided_copy_kernel(int n, int stride, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i * stride];
}

__device__ float block_sum(float value, float* scratch) {
  scratch[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half != 0; half /= 2) {
    if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
    __syncthreads();
  }
  return scratch[0];
}

__global__ void sum_blocks_kernel(int n, const float* x, float* out) {
  __shared__ float scratch[128];
  float value = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) value += x[i];
  const float sum = block_sum(value, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

__global__ void sum_warps_kernel(int n, const float* x, float* out) {
  __shared__ float sums[8];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float value = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) value += x[i];
  for (int offset = 16; offset != 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  if (warp == 0) {
    value = lane < 8 ? sums[lane] : 0.0f;
    for (int offset = 4; offset != 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    if (lane == 0) *out = value;
  }
}

__global__ void sum_last_block_kernel(int n, const float* x, float* partial, unsigned* counter, float* out) {
  __shared__ float scratch[128];
  __shared__ bool last;
  float value = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) value += x[i];
  const float sum = block_sum(value, scratch);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    last = atomicAdd(counter, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  value = threadIdx.x < gridDim.x ? partial[threadIdx.x] : 0.0f;
  const float total = block_sum(value, scratch);
  if (threadIdx.x == 0) *out = total;
}

__global__ void transpose_kernel(int rows, int columns, const float* x, float* y) {
  __shared__ float tile[32][33];
  const int column = blockIdx.x * 32 + threadIdx.x;
  for (int k = threadIdx.y; k < 32; k += blockDim.y) {
    const int row = blockIdx.y * 32 + k;
    if (row < rows && column < columns) tile[k][threadIdx.x] = x[row * columns + column];
  }
  __syncthreads();
  const int row = blockIdx.y * 32 + threadIdx.x;
  for (int k = threadIdx.y; k < 32; k += blockDim.y) {
    const int to = blockIdx.x * 32 + k;
    if (row < rows && to < columns) y[to * rows + row] = tile[threadIdx.x][k];
  }
}

__global__ void histogram_kernel(int n, const int* x, int* bins, int count) {
  __shared__ int local[256];
  for (int i = threadIdx.x; i < count; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&local[x[i]], 1);
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x) atomicAdd(&bins[i], local[i]);
}

__global__ void reverse_dynamic_kernel(int n, const float* x, float* y) {
  extern __shared__ float values[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) values[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = values[n - 1 - i];
}

__device__ __noinline__ double factorial_of(int n) { return n <= 1 ? 1.0 : n * factorial_of(n - 1); }

__global__ void factorial_kernel(int n, const int* x, double* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factorial_of(x[i]);
}

__global__ void collatz_kernel(int n, const int* x, int* steps) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int count = 0;
  for (long long value = x[i]; value != 1; ++count) value = value % 2 == 0 ? value / 2 : 3 * value + 1;
  steps[i] = count;
}

__global__ void mix64_kernel(int n, const uint64_t* x, uint64_t* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  uint64_t v = x[i];
  v ^= v >> 30;
  v *= 0xbf58476d1ce4e5b9ull;
  v ^= v >> 27;
  v += __umul64hi(v, 0x94d049bb133111ebull);
  const auto s = static_cast<int64_t>(v);
  y[i] = v / 1000003u + static_cast<uint64_t>(s / -7) * 31 + static_cast<uint64_t>(s % 13) + __popcll(v) +
         __clzll(v >> 5) + (__brevll(v) >> 3) + __ffsll(v << 7);
}

__global__ void to_bf16_kernel(int n, const float* x, uint16_t* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const unsigned bits = __float_as_uint(x[i]);
  y[i] = static_cast<uint16_t>(isnan(x[i]) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

__global__ void from_bf16_kernel(int n, const uint16_t* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __uint_as_float(static_cast<unsigned>(x[i]) << 16);
}

__global__ void copy_vectors_kernel(int n, const float4* x, float4* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __ldg(&x[i]);
}

__global__ void votes_kernel(const int* x, uint32_t* out) {
  const int value = x[threadIdx.x];
  uint32_t* mine = out + 6 * threadIdx.x;
  mine[0] = __ballot_sync(0xffffffffu, value > 3);
  mine[1] = __any_sync(0xffffffffu, value == 7);
  mine[2] = __all_sync(0xffffffffu, value >= 0);
  mine[3] = __match_any_sync(0xffffffffu, value);
  mine[4] = static_cast<uint32_t>(__shfl_up_sync(0xffffffffu, value, 5, 16));
  // Two halves of a warp vote apart from each other.
  mine[5] = threadIdx.x < 16 ? __ballot_sync(0x0000ffffu, value & 1) : __ballot_sync(0xffff0000u, value & 2);
}

__global__ void switches_kernel(int n, const int* x, int* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i];
  switch (v & 15) {
    case 0:
      v = v * 3 + 1;
      break;
    case 1:
      v = v / 5;
      break;
    case 2:
      v = v % 7;
      break;
    case 3:
      v = ~v;
      break;
    case 4:
      v = v << 3;
      break;
    case 5:
      v = __popc(v);
      break;
    case 6:
      v = __clz(v);
      break;
    case 7:
      v = static_cast<int>(__brev(v));
      break;
    case 8:
      v = static_cast<int>(__byte_perm(v, 77, 0x3210 + (v & 3)));
      break;
    case 9:
      v = static_cast<int>(__funnelshift_l(v, 3, v & 31));
      break;
    case 10:
      v = __mulhi(v, 123456789);
      break;
    default:
      v = -v;
  }
  y[i] = v;
}

__device__ int ordered(float value) {
  const int bits = __float_as_int(value);
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}

__global__ void minmax_atomics_kernel(int n, const float* x, int* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicMin(&out[0], ordered(x[i]));
  atomicMax(&out[1], ordered(x[i]));
}

__global__ void warp_exchange_kernel(const float* x, float* y) {
  __shared__ float values[64];
  values[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  const float other = values[threadIdx.x ^ 7];
  __syncwarp();
  values[threadIdx.x] = other * 2;
  __syncwarp();
  y[threadIdx.x] = values[threadIdx.x ^ 1];
}

__global__ void block_votes_kernel(int n, const int* x, int* out) {
  const int value = static_cast<int>(threadIdx.x) < n ? x[threadIdx.x] : 0;
  const int count = __syncthreads_count(value > 2), all = __syncthreads_and(value >= 0),
            any = __syncthreads_or(value == 1000);
  if (threadIdx.x == 0) {
    out[0] = count;
    out[1] = all;
    out[2] = any;
  }
}

struct Table {
  float values[8];
  int order[8];
};

__global__ void structs_kernel(int n, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  Table table;
  for (int k = 0; k < 8; ++k) {
    table.values[k] = x[i] * k;
    table.order[k] = (k * 5 + i) & 7;
  }
  float sum = 0;
  for (int k = 0; k < 8; ++k) sum = sum * 0.5f + table.values[table.order[k]];
  y[i] = sum;
}

__constant__ float weights[4] = {1.0f, 0.5f, 0.25f, 0.125f};
__device__ float offset = 3.0f;

__global__ void constants_kernel(int n, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * weights[i & 3] + offset;
}

__global__ void compare_and_swap_kernel(int n, const float* x, float* product) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  auto* bits = reinterpret_cast<unsigned*>(product);
  unsigned seen = *bits, assumed;
  do {
    assumed = seen;
    seen = atomicCAS(bits, assumed, __float_as_uint(__uint_as_float(assumed) * x[i]));
  } while (seen != assumed);
}

// The first and the last warp wait for the one in between, which waits for the first lane.
__global__ void spin_kernel(int* flag) {
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) atomicAdd(flag, 1);
  if (threadIdx.x == 33) {
    while (atomicAdd(flag, 0) != 1) {
    }
    atomicAdd(flag, 1);
  }
  if (warp != 1) {
    while (atomicAdd(flag, 0) < 2) {
    }
  }
  if (warp == 2) {  // lanes of one warp as well
    if (threadIdx.x % 2 == 0) {
      while (atomicAdd(flag, 0) < 18) {
      }
    } else {
      atomicAdd(flag, 1);
    }
  }
}

}  // namespace

void saxpy(int n, float a, const float* x, float* y, cudaStream_t stream) {
  saxpy_kernel<<<4, 128, 0, stream>>>(n, a, x, y);
}
void strided_copy(int n, int stride, const float* x, float* y) {
  strided_copy_kernel<<<grid_for(n, 64), 64>>>(n, stride, x, y);
}
void sum_blocks(int n, const float* x, float* out, int blocks) {
  sum_blocks_kernel<<<blocks, 128>>>(n, x, out);
}
void sum_warps(int n, const float* x, float* out) { sum_warps_kernel<<<1, 256>>>(n, x, out); }
void sum_last_block(int n, const float* x, float* partial, unsigned* counter, float* out, int blocks) {
  sum_last_block_kernel<<<blocks, 128>>>(n, x, partial, counter, out);
}
void transpose(int rows, int columns, const float* x, float* y) {
  transpose_kernel<<<dim3(grid_for(columns, 32), grid_for(rows, 32)), dim3(32, 8)>>>(rows, columns, x, y);
}
void histogram(int n, const int* x, int* bins, int count) { histogram_kernel<<<3, 96>>>(n, x, bins, count); }
void reverse_dynamic(int n, const float* x, float* y) {
  reverse_dynamic_kernel<<<1, 64, n * sizeof(float)>>>(n, x, y);
}
void factorial(int n, const int* x, double* y) { factorial_kernel<<<grid_for(n, 32), 32>>>(n, x, y); }
void collatz(int n, const int* x, int* steps) { collatz_kernel<<<grid_for(n, 64), 64>>>(n, x, steps); }
void mix64(int n, const uint64_t* x, uint64_t* y) { mix64_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void to_bf16(int n, const float* x, uint16_t* y) { to_bf16_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void from_bf16(int n, const uint16_t* x, float* y) { from_bf16_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void copy_vectors(int n, const float* x, float* y) {
  copy_vectors_kernel<<<grid_for(n / 4, 64), 64>>>(n / 4, reinterpret_cast<const float4*>(x),
                                                   reinterpret_cast<float4*>(y));
}
void votes(const int* x, uint32_t* out) { votes_kernel<<<1, 32>>>(x, out); }
void switches(int n, const int* x, int* y) { switches_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void minmax_atomics(int n, const float* x, int* out) {
  minmax_atomics_kernel<<<grid_for(n, 64), 64>>>(n, x, out);
}
void warp_exchange(const float* x, float* y) { warp_exchange_kernel<<<1, 64>>>(x, y); }
void block_votes(int n, const int* x, int* out) { block_votes_kernel<<<1, 96>>>(n, x, out); }
void structs(int n, const float* x, float* y) { structs_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void constants(int n, const float* x, float* y) { constants_kernel<<<grid_for(n, 64), 64>>>(n, x, y); }
void set_offset(float value) { cudaMemcpyToSymbol(offset, &value, sizeof value); }
void compare_and_swap(int n, const float* x, float* product) {
  compare_and_swap_kernel<<<grid_for(n, 32), 32>>>(n, x, product);
}

void spin(int* flag) { spin_kernel<<<1, 96>>>(flag); }
const void* block_sum_kernel() { return reinterpret_cast<const void*>(&sum_blocks_kernel); }

}  // namespace good
