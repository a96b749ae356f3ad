// A thread takes four positions of a sample, or eight of bf16, for all passes: one Philox block gives four
// words.
#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"
#include "ops/dropout_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T> constexpr int kPerThread = sizeof(T) == 2 ? 8 : 4;

// V at a time where rows are aligned; element by element, and never past the end of a row, where not.
template <class T, bool aligned>
__global__ void __launch_bounds__(cuda::kThreads)
    dropout_kernel(const __grid_constant__ DropoutPasses<T> a, cuda::Divisor per_row) {
  using C = compute_t<T>;
  constexpr int V = kPerThread<T>;
  const DeviceNoise::Draws draws = a.noise.draws();
  cuda::grid_stride_loop(a.samples * per_row.size, [&](int64_t task) {
    int64_t sample = task;
    const int64_t group = per_row.divide(sample), at = sample * a.row + group * V;
    const int here = aligned ? V : static_cast<int>(a.row - group * V < V ? a.row - group * V : V);
    cuda::Vector<T, V> x;
#pragma unroll 1
    for (int i = 0; i < a.passes; ++i) {
      if (i == 0 || a.x_pass != 0) {
        const T* from = a.x + i * a.x_pass + at;
        if constexpr (aligned) {
          x = cuda::load_vector<V>(from);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) x.at[v] = v < here ? from[v] : T{};
        }
      }
      cuda::Vector<T, V> y;
#pragma unroll
      for (int b = 0; b < V / 4; ++b) {
        std::array<uint32_t, 4> words{};
        if (a.threshold[i] != 0) {
          words = draws.block(static_cast<uint32_t>(i), static_cast<uint64_t>(sample),
                              static_cast<uint64_t>(group * (V / 4) + b));
        }
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const C scaled = static_cast<C>(x.at[4 * b + w]) * a.scale[i];
          y.at[4 * b + w] = words[w] >= a.threshold[i] ? scaled : C(0);
        }
      }
      T* to = a.y + i * a.y_pass + at;
      if constexpr (aligned) {
        cuda::store_vector<V>(to, y);
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v)
          if (v < here) to[v] = y.at[v];
      }
    }
  });
}

template <class T> void launch(const DropoutPasses<T>& a) {
  constexpr int V = kPerThread<T>;
  const cuda::Divisor per_row((a.row + V - 1) / V);
  const auto threads = cuda::threads_for(a.samples * per_row.size);
  if (cuda::takes_row_vectors<V>(a.row, a.x, static_cast<const T*>(a.y))) {
    cuda::launch<dropout_kernel<T, true>>("dropout", threads, a, per_row);
  } else {
    cuda::launch<dropout_kernel<T, false>>("dropout", threads, a, per_row);
  }
}

const RegisterKernels registered{[] { cuda::for_floats([]<class T>() { register_kernel(launch<T>); }); }};

}  // namespace
}  // namespace tandem
