#undef NDEBUG
#include <cassert>

#include "bad.h"

namespace bad {
namespace {

__global__ void missing_barrier_kernel(const float* x, float* y) {
  __shared__ float values[64];
  values[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void missing_barrier_before_reuse_kernel(const float* x, float* y) {
  __shared__ float values[64];
  float sum = 0;
  for (int k = 0; k < 3; ++k) {
    values[threadIdx.x] = x[threadIdx.x] + k;
    __syncthreads();
    sum += values[63 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}

__global__ void divergent_barrier_kernel(float* y) {
  __shared__ float values[64];
  values[threadIdx.x] = 1;
  if (threadIdx.x < 32) {
    __syncthreads();
    y[threadIdx.x] = values[63 - threadIdx.x];
  } else {
    __syncthreads();
    y[threadIdx.x] = values[63 - threadIdx.x] + 1;
  }
}

__global__ void barrier_after_exit_kernel(int n, float* y) {
  __shared__ float values[64];
  if (static_cast<int>(threadIdx.x) >= n) return;
  values[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = values[n - 1 - threadIdx.x];
}

__global__ void barrier_of_one_warp_kernel(float* y) {
  if (threadIdx.x < 32) __syncthreads();
  y[threadIdx.x] = 1;
}

__global__ void shuffle_without_some_kernel(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x % 2 == 1) {
    value += __shfl_xor_sync(0xffffffffu, value, 2);
    y[threadIdx.x] = value;
  } else {
    __syncthreads();
    y[threadIdx.x] = value;
  }
}

__global__ void shuffle_from_outside_kernel(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x < 16) value += __shfl_down_sync(0x0000ffffu, value, 4);
  y[threadIdx.x] = value;
}

__global__ void shuffle_by_strangers_kernel(const float* x, float* y) {
  y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 1);
}

__global__ void vote_never_completed_kernel(float* y) {
  if (threadIdx.x < 8) {
    y[threadIdx.x] = __any_sync(0x000000ffu, threadIdx.x == 3);
  } else if (threadIdx.x < 16) {
    y[threadIdx.x] = __any_sync(0x00ffff00u, threadIdx.x == 9);
  } else {
    y[threadIdx.x] = __any_sync(0xffffff00u, threadIdx.x == 9);
  }
}

__global__ void read_behind_kernel(int n, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i + 1];
}

__global__ void write_behind_kernel(int n, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = x[0];
}

__global__ void write_before_kernel(float* y) { y[static_cast<int>(threadIdx.x) - 1] = 1; }

__global__ void shared_overrun_kernel(float* y) {
  __shared__ float values[64], others[64];
  values[threadIdx.x + 1] = 1;
  others[threadIdx.x] = 2;
  __syncthreads();
  y[threadIdx.x] = values[threadIdx.x == 0 ? 1 : threadIdx.x] + others[63 - threadIdx.x];
}

__global__ void dynamic_shared_kernel(float* y) {
  extern __shared__ float values[];
  values[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void local_overrun_kernel(const int* index, float* y) {
  float values[8];
  for (int k = 0; k < 8; ++k) values[k] = k * y[k];
  y[0] = values[*index];
}

__global__ void misaligned_vector_kernel(const float* x, float* y) {
  const int i = threadIdx.x;
  reinterpret_cast<float4*>(y)[i] = *reinterpret_cast<const float4*>(x + 1 + 4 * i);
}

__global__ void read_all_kernel(int n, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] + 1;
}

__global__ void uninitialised_shared_kernel(float* y) {
  __shared__ float values[64];
  if (threadIdx.x < 48) values[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void write_by_all_blocks_kernel(float* y) {
  if (threadIdx.x == 0) *y = blockIdx.x;
}

__global__ void add_without_atomic_kernel(float* y) { *y += 1; }

__global__ void atomic_beside_write_kernel(int* y) {
  __shared__ int count;
  if (threadIdx.x == 40) count = 0;
  atomicAdd(&count, 1);
  __syncthreads();
  if (threadIdx.x == 0) *y = count;
}

__global__ void sum_read_too_early_kernel(int n, const int* x, int* y) {
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const int i = blockIdx.x * 64 + threadIdx.x;
  if (i < n) atomicAdd(&sum, x[i]);
  y[blockIdx.x * 64 + threadIdx.x] = sum;
}

__global__ void missing_syncwarp_kernel(const float* x, float* y) {
  __shared__ float values[32];
  values[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = values[threadIdx.x ^ 1];
}

__global__ void read_of_other_block_kernel(float* y) {
  if (threadIdx.x == 0) y[blockIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 1) y[4 + blockIdx.x] = y[(blockIdx.x + 1) % gridDim.x];
}

__global__ void last_block_without_fence_kernel(const float* x, float* partial, unsigned* counter,
                                                float* out) {
  float value = x[blockIdx.x * 32 + threadIdx.x];
  for (int offset = 16; offset != 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  unsigned done = 0;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = value;
    done = atomicAdd(counter, 1);
  }
  done = __shfl_sync(0xffffffffu, done, 0);
  if (done != gridDim.x - 1 || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned k = 0; k < gridDim.x; ++k) sum += partial[k];
  *out = sum;
}

__global__ void endless_kernel(const volatile int* flag) {
  while (*flag == 0) {
  }
}

__global__ void fails_assertion_kernel(int n) { assert(static_cast<int>(threadIdx.x) < n); }

__device__ __noinline__ float descend(int n, float* y) {
  float buffer[16];
  for (int k = 0; k < 16; ++k) buffer[k] = y[k] + n;
  if (n < 0) return buffer[-n & 15];
  return descend(n + 1, y) + buffer[n & 15];
}
__global__ void endless_recursion_kernel(int n, float* y) { y[16 + threadIdx.x] = descend(n, y); }

__constant__ float constants[4] = {1, 2, 3, 4};
__global__ void write_constant_kernel(float* x) { x[threadIdx.x] = 7; }

}  // namespace

void missing_barrier(const float* x, float* y) { missing_barrier_kernel<<<1, 64>>>(x, y); }
void missing_barrier_before_reuse(const float* x, float* y) {
  missing_barrier_before_reuse_kernel<<<1, 64>>>(x, y);
}
void divergent_barrier(float* y) { divergent_barrier_kernel<<<1, 64>>>(y); }
void barrier_after_exit(int n, float* y) { barrier_after_exit_kernel<<<1, 64>>>(n, y); }
void barrier_of_one_warp(float* y) { barrier_of_one_warp_kernel<<<1, 64>>>(y); }
void shuffle_without_some(const float* x, float* y) { shuffle_without_some_kernel<<<1, 32>>>(x, y); }
void shuffle_from_outside(const float* x, float* y) { shuffle_from_outside_kernel<<<1, 32>>>(x, y); }
void shuffle_by_strangers(const float* x, float* y) { shuffle_by_strangers_kernel<<<1, 32>>>(x, y); }
void vote_never_completed(float* y) { vote_never_completed_kernel<<<1, 32>>>(y); }
void read_behind(int n, const float* x, float* y) { read_behind_kernel<<<(n + 31) / 32, 32>>>(n, x, y); }
void write_behind(int n, const float* x, float* y) { write_behind_kernel<<<(n + 32) / 32, 32>>>(n, x, y); }
void write_before(float* y) { write_before_kernel<<<1, 32>>>(y); }
void shared_overrun(float* y) { shared_overrun_kernel<<<1, 64>>>(y); }
void dynamic_shared_too_small(float* y, int bytes) { dynamic_shared_kernel<<<1, 64, bytes>>>(y); }
void local_overrun(const int* index, float* y) { local_overrun_kernel<<<1, 1>>>(index, y); }
void misaligned_vector(const float* x, float* y) { misaligned_vector_kernel<<<1, 8>>>(x, y); }
void read_all(int n, const float* x, float* y) { read_all_kernel<<<(n + 31) / 32, 32>>>(n, x, y); }
void uninitialised_shared(float* y) { uninitialised_shared_kernel<<<1, 64>>>(y); }
void write_by_all_blocks(float* y) { write_by_all_blocks_kernel<<<4, 32>>>(y); }
void add_without_atomic(float* y) { add_without_atomic_kernel<<<1, 32>>>(y); }
void atomic_beside_write(int* y) { atomic_beside_write_kernel<<<1, 64>>>(y); }
void sum_read_too_early(int n, const int* x, int* y) {
  sum_read_too_early_kernel<<<(n + 63) / 64, 64>>>(n, x, y);
}
void missing_syncwarp(const float* x, float* y) { missing_syncwarp_kernel<<<1, 32>>>(x, y); }
void read_of_other_block(float* y) { read_of_other_block_kernel<<<4, 32>>>(y); }
void last_block_without_fence(const float* x, float* partial, unsigned* counter, float* out) {
  last_block_without_fence_kernel<<<4, 32>>>(x, partial, counter, out);
}
void endless(const volatile int* flag) { endless_kernel<<<1, 32>>>(flag); }
void fails_assertion(int n) { fails_assertion_kernel<<<1, 32>>>(n); }
void endless_recursion(int n, float* y) { endless_recursion_kernel<<<1, 32>>>(n, y); }
void write_constant(const float* x) { write_constant_kernel<<<1, 4>>>(const_cast<float*>(x)); }

const float* constant_address() {
  void* address = nullptr;
  cudaGetSymbolAddress(&address, constants);
  return static_cast<const float*>(address);
}

}  // namespace bad
