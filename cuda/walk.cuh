// Walks over strided tensors in kernels: from a number of an element to its offsets in the operands.
#pragma once

#include "autograd/limits.h"
#include "cuda/divisor.cuh"
#include "ops/loops/map.h"

namespace tandem::cuda {

// The dimensions of N operands walked together, the last of them the fastest. As a kernel's parameter it is
// `const __grid_constant__`, or the loop over dimensions would make a copy of it for every thread.
template <int N> struct Walker {
  int dims = 0;
  int64_t numel = 1;
  Divisor sizes[kMaxDims + 1];
  int64_t strides[N][kMaxDims + 1];

  Walker() = default;
  // V elements at a time along the last dimension, where operands are dense or repeat one element.
  explicit Walker(const detail::Walk<N>& walk, int V = 1) {
    for (int d = 0; d < walk.dims; ++d) {
      const int group = d == walk.dims - 1 ? V : 1;
      for (int k = 0; k < N; ++k) strides[k][d] = walk.strides[k][d] * group;
      add_size(walk.sizes[d] / group);
    }
  }
  template <class... Stride> void add(int64_t size, Stride... stride) {
    static_assert(sizeof...(Stride) == N);
    int k = 0;
    ((strides[k++][dims] = stride), ...);
    add_size(size);
  }

  struct Offsets {
    int64_t of[N];
  };
  __device__ Offsets at(int64_t index) const {
    Offsets result{};
#pragma unroll 1
    for (int d = dims - 1; d >= 0; --d) {
      const int64_t i = d == 0 ? index : sizes[d].divide(index);
#pragma unroll
      for (int k = 0; k < N; ++k) result.of[k] += i * strides[k][d];
    }
    return result;
  }

 private:
  void add_size(int64_t size) {
    sizes[dims++] = Divisor(size);
    numel *= size;
  }
};

}  // namespace tandem::cuda
