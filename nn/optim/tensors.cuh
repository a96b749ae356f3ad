// Kernels over the chunks of many tensors (nn/optim/tensor_rows.h).
#pragma once

#include "cuda/reduce.cuh"
#include "nn/optim/tensor_rows.h"

namespace tandem::nn {

// Calls begin(row, chunk) once for every chunk of this block, then f.operator()<V>(row, i) for its vectors of
// V elements at element i of the tensor, or <1> where single elements have to do. All threads call begin.
template <int V, class Begin, class F>
__device__ void for_tensor_chunks(const TensorRows& tensors, Begin begin, F f) {
  for (int64_t c = blockIdx.x; c < tensors.chunks; c += gridDim.x) {
    const TensorRow row = tensors.rows[tensors.row_of_chunk[c]];
    begin(row, c);
    const int64_t first = (c - row.first_chunk) * kTensorChunk;
    const int count = static_cast<int>(row.numel - first < kTensorChunk ? row.numel - first : kTensorChunk);
    const int whole = row.aligned ? count / V : 0;
#pragma unroll 2
    for (int k = threadIdx.x; k < whole; k += cuda::kThreads) f.template operator()<V>(row, first + k * V);
    for (int k = whole * V + threadIdx.x; k < count; k += cuda::kThreads)
      f.template operator()<1>(row, first + k);
  }
}

template <class T, int V> __device__ cuda::Vector<T, V> load_tensor(const void* data, int64_t i) {
  return cuda::load_vector<V>(static_cast<const T*>(data) + i);
}
template <class T, int V>
__device__ void store_tensor(void* data, int64_t i, const cuda::Vector<T, V>& values) {
  cuda::store_vector<V>(static_cast<T*>(data) + i, values);
}

}  // namespace tandem::nn
