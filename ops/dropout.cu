// A thread takes four positions of a sample, or eight where there is bf16, for all passes: one Philox block
// gives four words.
#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"
#include "ops/dropout_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T, class O> constexpr int kPerThread = sizeof(T) == 2 || sizeof(O) == 2 ? 8 : 4;

// V elements at p; where not `aligned` the first `here` of them.
template <int V, bool aligned, class T> __device__ cuda::Vector<T, V> load_some(const T* p, int here) {
  if constexpr (aligned) {
    return cuda::load_vector<V>(p);
  } else {
    cuda::Vector<T, V> values;
#pragma unroll
    for (int v = 0; v < V; ++v) values.at[v] = v < here ? p[v] : T{};
    return values;
  }
}

// V at a time where rows are aligned; element by element, and never past the end of a row, where not.
template <class T, class O, bool aligned, bool adds>
__global__ void __launch_bounds__(cuda::kThreads)
    dropout_kernel(const __grid_constant__ DropoutPasses<T, O> a, cuda::Divisor per_row) {
  using C = compute_t<T>;
  constexpr int V = kPerThread<T, O>;
  const DeviceNoise::Draws draws = a.noise.draws();
  cuda::grid_stride_loop(a.samples * per_row.size, [&](int64_t task) {
    int64_t sample = task;
    const int64_t group = per_row.divide(sample), at = sample * a.row + group * V;
    const int here = aligned ? V : static_cast<int>(a.row - group * V < V ? a.row - group * V : V);
    cuda::Vector<T, V> x;
    cuda::Vector<O, V> onto;
#pragma unroll 1
    for (int i = 0; i < a.passes; ++i) {
      if (i == 0 || a.x_pass != 0) x = load_some<V, aligned>(a.x + i * a.x_pass + at, here);
      if (adds && (i == 0 || a.onto_pass != 0))
        onto = load_some<V, aligned>(a.onto + i * a.onto_pass + at, here);
      cuda::Vector<O, V> y;
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
          const C kept = words[w] >= a.threshold[i] ? scaled : C(0);
          y.at[4 * b + w] = adds ? static_cast<C>(onto.at[4 * b + w]) + kept : kept;
        }
      }
      O* to = a.y + i * a.y_pass + at;
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

template <class T, class O> void launch(const DropoutPasses<T, O>& a) {
  constexpr int V = kPerThread<T, O>;
  const cuda::Divisor per_row((a.row + V - 1) / V);
  const auto threads = cuda::threads_for(a.samples * per_row.size);
  const auto with = [&]<bool aligned, bool adds>() {
    cuda::launch<dropout_kernel<T, O, aligned, adds>>("dropout", threads, a, per_row);
  };
  if (cuda::takes_row_vectors<V>(a.row, a.x, static_cast<const O*>(a.y), a.onto)) {
    a.onto ? with.template operator()<true, true>() : with.template operator()<true, false>();
  } else {
    a.onto ? with.template operator()<false, true>() : with.template operator()<false, false>();
  }
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<T, T>); });
  register_kernel(launch<bf16, float>);
  register_kernel(launch<float, bf16>);
}};

}  // namespace
}  // namespace tandem
