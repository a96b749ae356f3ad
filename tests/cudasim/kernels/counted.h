// Kernels whose cost is known.
#pragma once
namespace counted {
void copy(int n, const float* x, float* y);  // blocks of 128
void copy_strided(int n, int stride, const float* x, float* y);
void copy_shifted(int n, const float* x, float* y);  // reads begin 4 bytes behind a sector's
void copy_vectors(int n, const float* x, float* y);  // 16 bytes a thread
void read_twice(int n, const float* x, float* y);
void polynomial(int n, const float* x, float* y);  // 3 fused multiply-adds, 1 multiplication
void shared_stride(int stride, float* y);          // one warp: shared[lane * stride]
void shared_vectors(float* y);                     // one warp: 16 bytes a lane, neighbours
}  // namespace counted
