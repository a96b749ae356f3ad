// One read of g and z, one write of dz; a block's threads own columns and walk down a chunk of rows, so sums
// need no atomics. Chunks are fixed by the shape, and their sums are added in order: the same bits in every
// run.
#include "cuda/map.cuh"
#include "cuda/row_chunks.cuh"
#include "ops/linear_kernel.h"

namespace tandem {
namespace {

using cuda::Vector;
using detail::LinearSweep;

constexpr int kLanes = 32, kRows = 8;  // threads across and down
template <class T>
constexpr int kLeastBlocks = sizeof(T) == 8 ? 1 : 0;  // 1: f64 spills no registers for more of them; 0: any

template <class F, int V, class T>
__global__ void __launch_bounds__(kLanes* kRows, kLeastBlocks<T>)
    sweep_kernel(LinearSweep<T> sweep, int64_t chunk, accumulate_t<T>* sums, bool accumulate) {
  using A = accumulate_t<T>;
  __shared__ Vector<A, V> shared[kRows][kLanes];
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x) * V;
  const int64_t begin = blockIdx.y * chunk, end = begin + chunk < sweep.rows ? begin + chunk : sweep.rows;
  A sum[V] = {};
  if (col < sweep.cols) {
#pragma unroll 4
    for (int64_t row = begin + threadIdx.y; row < end; row += kRows) {
      const int64_t at = row * sweep.row_stride + col;
      const auto g = cuda::load_vector<V>(sweep.g + at);
      Vector<T, V> z = g;
      if constexpr (!std::is_same_v<F, detail::NoActivation>) z = cuda::load_vector<V>(sweep.z + at);
      Vector<T, V> dz;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A value = detail::times_derivative(F{}, static_cast<A>(g.at[v]), static_cast<A>(z.at[v]));
        dz.at[v] = value;
        sum[v] += value;
      }
      if (sweep.dz) cuda::store_vector<V>(sweep.dz + row * sweep.cols + col, dz);
    }
  }
  if (!sums) return;
#pragma unroll
  for (int v = 0; v < V; ++v) shared[threadIdx.y][threadIdx.x].at[v] = sum[v];
  __syncthreads();
  // Now a thread for each column, so that neighbours write to neighbouring sums.
  const int own = static_cast<int>(threadIdx.y * kLanes + threadIdx.x);
  const int64_t out_col = static_cast<int64_t>(blockIdx.x) * kLanes * V + own;
  if (own >= kLanes * V || out_col >= sweep.cols) return;
  A total = 0;
#pragma unroll
  for (int y = 0; y < kRows; ++y) total += shared[y][own / V].at[own % V];
  A& out = sums[blockIdx.y * sweep.cols + out_col];
  out = accumulate ? out + total : total;
}

// sums[j] (+)= the sum over chunks of partial[chunk][j]
template <class A>
__global__ void __launch_bounds__(cuda::kThreads)
    finish_kernel(const A* partial, A* sums, int64_t chunks, int64_t cols, bool accumulate) {
  const int64_t col = static_cast<int64_t>(blockIdx.x) * cuda::kThreads + threadIdx.x;
  if (col >= cols) return;
  wide_t<A> total = accumulate ? sums[col] : A(0);
#pragma unroll 4
  for (int64_t c = 0; c < chunks; ++c) total += partial[c * cols + col];
  sums[col] = static_cast<A>(total);
}

template <class F, int V, class T> void launch(const LinearSweep<T>& sweep) {
  using A = accumulate_t<T>;
  const int64_t columns = (sweep.cols + kLanes * V - 1) / (kLanes * V);
  const cuda::RowChunks chunks(sweep.rows, columns, kRows);
  const auto run = [&](A* sums, bool accumulate) {
    const dim3 blocks(static_cast<unsigned>(columns), static_cast<unsigned>(chunks.count));
    cuda::launch<sweep_kernel<F, V, T>>("linear_sweep", cuda::Grid{blocks, {kLanes, kRows}}, sweep,
                                        chunks.rows, sums, accumulate);
  };
  if (!sweep.sums || chunks.count == 1) return run(sweep.sums, sweep.accumulate);
  const cuda::Scratch scratch(chunks.count * sweep.cols * static_cast<int64_t>(sizeof(A)));
  run(scratch.as<A>(), false);
  const auto blocks = static_cast<unsigned>((sweep.cols + cuda::kThreads - 1) / cuda::kThreads);
  cuda::launch<finish_kernel<A>>("linear_sweep_sums", cuda::Grid{blocks, cuda::kThreads}, scratch.as<A>(),
                                 sweep.sums, chunks.count, sweep.cols, sweep.accumulate);
}

template <class F, class T> void launch_wide(const LinearSweep<T>& sweep) {
  constexpr int V = 16 / sizeof(T);
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool wide = sweep.cols % V == 0 && sweep.row_stride % V == 0 && aligned(sweep.g) &&
                    aligned(sweep.z) && aligned(sweep.dz);
  wide ? launch<F, V>(sweep) : launch<F, 1>(sweep);
}

template <class T> void run(const LinearSweep<T>& sweep) {
  if (sweep.cols == 0) return;
  detail::with_activation(sweep.activation, [&]<class F>() { launch_wide<F>(sweep); });
}

const RegisterKernels registered{[] { cuda::for_floats([]<class T>() { register_kernel(run<T>); }); }};

}  // namespace
}  // namespace tandem
