#include "counted.h"

namespace counted {
namespace {
__device__ int index() { return blockIdx.x * blockDim.x + threadIdx.x; }

__global__ void copy_kernel(int n, const float* x, float* y) {
  if (index() < n) y[index()] = x[index()];
}
__global__ void copy_strided_kernel(int n, int stride, const float* x, float* y) {
  if (index() < n) y[index()] = x[index() * stride];
}
__global__ void copy_shifted_kernel(int n, const float* x, float* y) {
  if (index() < n) y[index()] = x[index() + 1];
}
__global__ void copy_vectors_kernel(int n, const float4* x, float4* y) {
  if (index() < n) y[index()] = x[index()];
}
__global__ void read_twice_kernel(int n, const volatile float* x, float* y) {
  if (index() < n) y[index()] = x[index()] - x[n - 1 - index()];
}
__global__ void polynomial_kernel(int n, const float* x, float* y) {
  if (index() >= n) return;
  const float v = x[index()];
  y[index()] = fmaf(fmaf(fmaf(v, 0.5f, 0.25f), v, 2.0f), v, 7.0f) * v;
}
__global__ void shared_stride_kernel(int stride, float* y) {
  __shared__ volatile float values[32 * 33];
  values[threadIdx.x * stride] = threadIdx.x;
  y[threadIdx.x] = values[threadIdx.x * stride];
}
__global__ void shared_vectors_kernel(float* y) {
  __shared__ float4 values[32];
  values[threadIdx.x] = make_float4(1, 2, 3, 4);
  __syncwarp();
  y[threadIdx.x] = values[threadIdx.x ^ 1].x;
}
}  // namespace

void copy(int n, const float* x, float* y) { copy_kernel<<<(n + 127) / 128, 128>>>(n, x, y); }
void copy_strided(int n, int stride, const float* x, float* y) {
  copy_strided_kernel<<<(n + 127) / 128, 128>>>(n, stride, x, y);
}
void copy_shifted(int n, const float* x, float* y) { copy_shifted_kernel<<<(n + 127) / 128, 128>>>(n, x, y); }
void copy_vectors(int n, const float* x, float* y) {
  copy_vectors_kernel<<<(n / 4 + 127) / 128, 128>>>(n / 4, reinterpret_cast<const float4*>(x),
                                                    reinterpret_cast<float4*>(y));
}
void read_twice(int n, const float* x, float* y) { read_twice_kernel<<<(n + 127) / 128, 128>>>(n, x, y); }
void polynomial(int n, const float* x, float* y) { polynomial_kernel<<<(n + 127) / 128, 128>>>(n, x, y); }
void shared_stride(int stride, float* y) { shared_stride_kernel<<<1, 32>>>(stride, y); }
void shared_vectors(float* y) { shared_vectors_kernel<<<1, 32>>>(y); }

}  // namespace counted
