// Kernels with one mistake each, which the simulation must find.
#pragma once
#include <cuda_runtime_api.h>

namespace bad {

void missing_barrier(const float* x, float* y);               // 64 values
void missing_barrier_before_reuse(const float* x, float* y);  // 64 values
void divergent_barrier(float* y);                             // 64
void barrier_after_exit(int n, float* y);                     // n < 64
void barrier_of_one_warp(float* y);                           // 64
void shuffle_without_some(const float* x, float* y);          // 32
void shuffle_from_outside(const float* x, float* y);          // 32
void shuffle_by_strangers(const float* x, float* y);          // 32: lanes that the mask does not name
void vote_never_completed(float* y);                          // 32
void read_behind(int n, const float* x, float* y);
void write_behind(int n, const float* x, float* y);
void write_before(float* y);
void shared_overrun(float* y);                       // 64
void dynamic_shared_too_small(float* y, int bytes);  // needs 64 floats
void local_overrun(const int* index, float* y);
void misaligned_vector(const float* x, float* y);  // 33 floats
void read_all(int n, const float* x, float* y);
void uninitialised_shared(float* y);                   // 64
void write_by_all_blocks(float* y);                    // 1
void add_without_atomic(float* y);                     // 1, initialised
void atomic_beside_write(int* y);                      // 1
void sum_read_too_early(int n, const int* x, int* y);  // blocks of 64
void missing_syncwarp(const float* x, float* y);       // 32
void read_of_other_block(float* y);                    // 4
void last_block_without_fence(const float* x, float* partial, unsigned* counter,
                              float* out);  // 4 * 32 values
void endless(const volatile int* flag);
void fails_assertion(int n);
void endless_recursion(int n, float* y);
void write_constant(const float* x);

const float* constant_address();

}  // namespace bad
