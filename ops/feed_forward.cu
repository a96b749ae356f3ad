// What is between the products of a feed-forward layer with dropout: one read of z and one write of h; one
// read of dh and z (or h) and one write of dz, beside its column sums.
#include "cuda/columns.cuh"
#include "cuda/divisor.cuh"
#include "cuda/noise.cuh"
#include "cuda/row_chunks.cuh"
#include "ops/feed_forward_kernel.h"

namespace tandem {
namespace {

using namespace detail;
using cuda::Vector;

template <class T> constexpr int kVector = sizeof(T) == 2 ? 8 : 4;
constexpr int kLanes = 32, kRows = 8;  // threads of a block across and down

template <class F, class C, int V> __device__ Vector<C, V> activated(Vector<C, V> z) {
#pragma unroll
  for (int v = 0; v < V; ++v) z.at[v] = F::value(z.at[v]);
  return z;
}

template <class F, class T>
__global__ void __launch_bounds__(cuda::kThreads)
    hidden_dropout_kernel(const __grid_constant__ HiddenDropout<T> a, cuda::Divisor per_sample) {
  using C = compute_t<T>;
  constexpr int V = kVector<T>;
  const cuda::RoundDraws draws(a.noise);
  cuda::grid_stride_loop(a.samples * per_sample.size, [&](int64_t task) {
    const int64_t at = task * V;
    int64_t sample = task;
    const auto b = static_cast<uint64_t>(per_sample.divide(sample)) * (V / 4);
    Vector<C, V> f;
#pragma unroll 1
    for (int i = 0; i < a.passes; ++i) {
      if (i == 0 || a.x_pass != 0) f = activated<F>(cuda::wide_vector<V>(a.x + i * a.x_pass + at));
      const Vector<C, V> h = cuda::keep_or_drop(f, draws, static_cast<uint32_t>(i), static_cast<uint64_t>(sample),
                                                b, a.threshold[i], a.scale[i]);
      cuda::store_vector<V>(a.y + i * a.y_pass + at, cuda::narrow<T, V>(h));
    }
  });
}

// A thread has V columns and walks down a chunk of the rows, which are those of all samples.
template <class F, class T>
__global__ void __launch_bounds__(kLanes* kRows, 1)  // 1: none spills registers for more blocks
    hidden_dropout_grad_kernel(const __grid_constant__ HiddenDropoutGrad<T> a, cuda::Divisor rows_of_sample,
                               int64_t chunk, accumulate_t<T>* sums) {
  using C = compute_t<T>;
  constexpr int V = kVector<T>;
  constexpr bool relu = std::is_same_v<F, Relu>;
  __shared__ Vector<C, V> shared[kRows][kLanes];
  const cuda::RoundDraws draws(a.noise);
  const int64_t rows = a.samples * rows_of_sample.size, begin = blockIdx.y * chunk,
                end = begin + chunk < rows ? begin + chunk : rows;
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x) * V;
  Vector<C, V> sum = {};
  for (int64_t row = begin + threadIdx.y; col < a.cols && row < end; row += kRows) {
    const int64_t at = row * a.cols + col;
    int64_t sample = row;
    const auto b = static_cast<uint64_t>(rows_of_sample.divide(sample) * a.cols + col) / 4;
    Vector<C, V> x, total = {};
#pragma unroll 1
    for (int i = 0; i < a.passes; ++i) {
      if (i == 0 || a.x_pass != 0) x = cuda::wide_vector<V>(a.x + i * a.x_pass + at);
      Vector<C, V> g = cuda::wide_vector<V>(a.g + i * a.y_pass + at);
      if constexpr (relu) {
#pragma unroll
        for (int v = 0; v < V; ++v) g.at[v] = x.at[v] > 0 ? g.at[v] * a.scale[i] : C(0);
      } else {
        g = cuda::keep_or_drop(g, draws, static_cast<uint32_t>(i), static_cast<uint64_t>(sample), b,
                               a.threshold[i], a.scale[i]);
      }
#pragma unroll
      for (int v = 0; v < V; ++v) total.at[v] += g.at[v];
      if (a.dz_pass == 0 && i + 1 < a.passes) continue;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if constexpr (!relu) total.at[v] *= F::derivative(x.at[v]);
        sum.at[v] += total.at[v];
      }
      cuda::store_vector<V>(a.dz + i * a.dz_pass + at, cuda::narrow<T, V>(total));
      total = {};
    }
  }
  if (!sums) return;
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  // Now a thread for each column, so that neighbours write to neighbouring sums.
  const int own = static_cast<int>(threadIdx.y * kLanes + threadIdx.x);
  const int64_t out_col = static_cast<int64_t>(blockIdx.x) * kLanes * V + own;
  if (own >= kLanes * V || out_col >= a.cols) return;
  C of_column = 0;
#pragma unroll
  for (int y = 0; y < kRows; ++y) of_column += shared[y][own / V].at[own % V];
  sums[blockIdx.y * a.cols + out_col] = of_column;
}

template <class T, class Body> void with_hidden_activation(Activation f, Body body) {
  with_activation(f, [&]<class F>() {
    if constexpr (!std::is_same_v<F, NoActivation>) body.template operator()<F>();
  });
}

template <class T> void forward(const HiddenDropout<T>& a) {
  const cuda::Divisor per_sample(a.row / kVector<T>);
  with_hidden_activation<T>(a.activation, [&]<class F>() {
    cuda::launch<hidden_dropout_kernel<F, T>>("feed_forward", cuda::threads_for(a.samples * per_sample.size), a,
                                              per_sample);
  });
}

template <class T> void backward(const HiddenDropoutGrad<T>& a) {
  using A = accumulate_t<T>;
  const cuda::Divisor rows_of_sample(a.row / a.cols);
  const int64_t columns = (a.cols + kLanes * kVector<T> - 1) / (kLanes * kVector<T>);
  const cuda::RowChunks chunks(a.samples * rows_of_sample.size, columns, kRows);
  const cuda::Scratch partial(a.sums && chunks.count > 1 ? chunks.count * a.cols * int64_t{sizeof(A)} : 1);
  A* const sums = chunks.count > 1 && a.sums ? partial.as<A>() : a.sums;
  with_hidden_activation<T>(a.activation, [&]<class F>() {
    const dim3 blocks(static_cast<unsigned>(columns), static_cast<unsigned>(chunks.count));
    cuda::launch<hidden_dropout_grad_kernel<F, T>>("feed_forward", cuda::Grid{blocks, {kLanes, kRows}}, a,
                                                   rows_of_sample, chunks.rows, sums);
  });
  if (sums != a.sums) cuda::column_sums(cuda::ColumnSums<A>{{sums}, {a.sums}, 1, chunks.count, a.cols}, 1);
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() {
    register_kernel(forward<T>);
    register_kernel(backward<T>);
  });
}};

}  // namespace
}  // namespace tandem
