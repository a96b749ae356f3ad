// Kernels of tensor cores and asynchronous copies: right ones, and some with one mistake each.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace matrix {

// One warp: out[16, 8] = a[16, 16] b[16, 8] + c[16, 8], of bf16 or f16 bits; from registers.
void multiply(bool bf16, const uint16_t* a, const uint16_t* b, const float* c, float* out);
// One warp: what lanes get of `count` matrices of 8 x 8 (1, 2 or 4), [count, 32].
void load(int count, bool transposed, const uint16_t* x, uint32_t* out);
// out[16, 16] = a[16, 16] b[16, 16] of bf16 by the functions of cuda/tensor_cores.cuh, through shared memory.
void multiply_tiles(const uint16_t* a, const uint16_t* b, float* out);
// Pairs of bf16, low first.
void round_pairs(int n, const float* x, uint32_t* out);
void round_single(int n, const float* x, uint16_t* out);
void max_pairs(int n, const uint32_t* a, const uint32_t* b, uint32_t* out);
// y[i] = x[i], `bytes` of 4, 8 or 16 at a time of which only `used` are read, the others 0; 64 threads.
void copy(int bytes, int used, const uint32_t* x, uint32_t* y);
// y[64] = the sum of tiles of 64 values, a copy of the next going on beside each.
void sum_pipelined(int tiles, const float* x, float* y);

// ---- mistakes
void wait_missing(const float* x, float* y);                     // 64 values
void wait_for_fewer(int tiles, const float* x, float* y);        // waits for one group fewer than it must
void commit_missing(const float* x, float* y);                   // waits for groups, but there are none
void barrier_missing(const float* x, float* y);                  // other threads' copies
void barrier_before_reuse(int tiles, const float* x, float* y);  // copies to where others still read
void write_before_wait(const float* x, float* y);                // to where a copy is under way
void exit_before_wait(const float* x, float* y);
void copy_misaligned(const float* x, float* y);
void copy_behind(const float* x, float* y);
void row_misaligned(const uint16_t* x, uint32_t* out);
void row_behind(const uint16_t* x, uint32_t* out);
void row_of_neighbour(const uint16_t* x, uint32_t* out);  // written without a __syncwarp
void multiply_by_half(const uint16_t* x, float* out);     // half a warp

}  // namespace matrix
