// Right kernels, as functions of device pointers; each puts its work on the stream.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace good {

void saxpy(int n, float a, const float* x, float* y, cudaStream_t stream = nullptr);
void strided_copy(int n, int stride, const float* x, float* y);
void sum_blocks(int n, const float* x, float* out, int blocks);  // shared memory
void sum_warps(int n, const float* x, float* out);               // shuffles
void sum_last_block(int n, const float* x, float* partial, unsigned* counter, float* out, int blocks);
void transpose(int rows, int columns, const float* x, float* y);
void histogram(int n, const int* x, int* bins, int count);  // count <= 256
void reverse_dynamic(int n, const float* x, float* y);      // dynamic shared memory; one block
void factorial(int n, const int* x, double* y);             // recursion
void collatz(int n, const int* x, int* steps);              // divergence
void mix64(int n, const uint64_t* x, uint64_t* y);          // 64-bit integers
void to_bf16(int n, const float* x, uint16_t* y);
void from_bf16(int n, const uint16_t* x, float* y);
void copy_vectors(int n, const float* x, float* y);  // 16 bytes each; n a multiple of 4
void votes(const int* x, uint32_t* out);             // 32 threads, 6 results each
void switches(int n, const int* x, int* y);
void minmax_atomics(int n, const float* x, int* out);  // least and greatest as ordered integers
void warp_exchange(const float* x, float* y);          // __syncwarp; 64 threads
void block_votes(int n, const int* x, int* out);       // __syncthreads_count, and, or; one block
void structs(int n, const float* x, float* y);         // local arrays with dynamic indices
void constants(int n, const float* x, float* y);       // __constant__ and __device__ variables
void set_offset(float value);
void compare_and_swap(int n, const float* x, float* product);  // CAS loop

void spin(int* flag);  // warps wait for each other; a zero

const void* block_sum_kernel();  // of sum_blocks, for the runtime's questions about kernels

}  // namespace good
