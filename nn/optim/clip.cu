// The norm of all gradients: sums of squares of chunks, in f64, which one block adds in their order.
#include <limits>

#include "cuda/pending_error.h"
#include "nn/optim/tensors.cuh"

namespace tandem::nn {
namespace {

template <class T> __global__ void __launch_bounds__(cuda::kThreads) square_sums_kernel(SquareSums<T> a) {
  constexpr int V = 16 / sizeof(T);
  double sum = 0;
  int64_t chunk = -1;
  const auto finish = [&] {
    if (chunk < 0) return;
    sum = cuda::block_sum(sum);
    if (threadIdx.x == 0) a.sums[chunk] = sum;
    sum = 0;
  };
  for_tensor_chunks<V>(
      a.tensors,
      [&](const TensorRow&, int64_t c) {
        finish();
        chunk = c;
      },
      [&]<int N>(const TensorRow& row, int64_t i) {
        const cuda::Vector<T, N> values = load_tensor<T, N>(row.gradient, i);
#pragma unroll
        for (double value : values.at) sum += value * value;
      });
  finish();
}

constexpr int kNormThreads = 1024;

// What a kernel before found wrong in its data makes the norm NaN, so that no update follows.
__global__ void __launch_bounds__(kNormThreads) norm_kernel(NormOfSums a, const PendingError* error) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < a.count; i += kNormThreads) total += a.sums[i];
  total = cuda::block_sum<kNormThreads>(total);
  if (threadIdx.x != 0) return;
  const double norm = error->raise ? std::numeric_limits<double>::quiet_NaN() : sqrt(total);
  const double factor = a.max_norm / (norm + 1e-6);
  a.norm[0] = norm;
  a.norm[1] = factor >= 1 ? 1 : factor;
}

template <class T> __global__ void __launch_bounds__(cuda::kThreads) scale_kernel(ScaleGradients<T> a) {
  constexpr int V = 16 / sizeof(T);
  if (a.norm[1] == 1 || !isfinite(a.norm[0])) return;
  const T factor = static_cast<T>(a.norm[1]);
  for_tensor_chunks<V>(
      a.tensors, [](const TensorRow&, int64_t) {},
      [&]<int N>(const TensorRow& row, int64_t i) {
        cuda::Vector<T, N> scaled = load_tensor<T, N>(row.gradient, i);
#pragma unroll
        for (T& value : scaled.at) value *= factor;
        store_tensor(row.gradient, i, scaled);
      });
}

template <class T> void launch_sums(const SquareSums<T>& args) {
  cuda::launch<square_sums_kernel<T>>("grad_norm", cuda::blocks_for(args.tensors.chunks), args);
}
template <class T> void launch_scale(const ScaleGradients<T>& args) {
  cuda::launch<scale_kernel<T>>("clip_grad_norm", cuda::blocks_for(args.tensors.chunks), args);
}
void launch_norm(const NormOfSums& args) {
  cuda::launch<norm_kernel>("grad_norm", cuda::Grid{1, kNormThreads}, args, cuda::pending_error());
}

const RegisterKernels registered{[] {
  cuda::for_types<float, double>([]<class T>() {
    register_kernel(launch_sums<T>);
    register_kernel(launch_scale<T>);
  });
  register_kernel(launch_norm);
}};

}  // namespace
}  // namespace tandem::nn
