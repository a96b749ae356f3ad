// A thread takes four positions of a sample, or eight where there is bf16, for all passes: one Philox block
// gives four words.
#include "cuda/noise.cuh"
#include "cuda/reduce.cuh"
#include "ops/dropout_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T, class O> constexpr int kPerThread = sizeof(T) == 2 || sizeof(O) == 2 ? 8 : 4;

constexpr int64_t kMostTasks = int64_t{1} << 30;  // of a launch: they are counted in 32 bits

// V elements at p, as what they are computed in; where not `aligned` the first `here` of them.
template <int V, bool aligned, class T>
__device__ cuda::Vector<compute_t<T>, V> load_some(const T* p, int here) {
  if constexpr (aligned) {
    return cuda::wide_vector<V>(p);
  } else {
    cuda::Vector<compute_t<T>, V> values;
#pragma unroll
    for (int v = 0; v < V; ++v) values.at[v] = v < here ? static_cast<compute_t<T>>(p[v]) : compute_t<T>(0);
    return values;
  }
}

// V at a time where rows are aligned; element by element, and never past the end of a row, where not. For so
// many passes, or for a.passes where that is 0.
template <class T, class O, bool aligned, bool adds, int passes>
__global__ void __launch_bounds__(cuda::kThreads)
    dropout_kernel(const __grid_constant__ DropoutPasses<T, O> a, cuda::SmallDivisor per_row, uint32_t tasks) {
  using C = compute_t<T>;
  constexpr int V = kPerThread<T, O>;
  const cuda::RoundDraws draws(a.noise);
  for (uint32_t task = blockIdx.x * cuda::kThreads + threadIdx.x; task < tasks;
       task += gridDim.x * cuda::kThreads) {
    uint32_t sample = task;
    const uint32_t group = per_row.divide(sample);
    const int64_t at = aligned ? int64_t{task} * V : sample * a.row + int64_t{group} * V;
    const int here = aligned ? V : static_cast<int>(min(a.row - int64_t{group} * V, int64_t{V}));
    const T* from = a.x + at;
    const O* below = adds ? a.onto + at : nullptr;
    O* to = a.y + at;
    cuda::Vector<C, V> x, onto;
#pragma unroll passes ? passes : 1
    for (int i = 0; i < (passes ? passes : a.passes); ++i, from += a.x_pass, to += a.y_pass) {
      if (i == 0 || a.x_pass != 0) x = load_some<V, aligned>(from, here);
      if (adds && (i == 0 || a.onto_pass != 0)) onto = load_some<V, aligned>(below + i * a.onto_pass, here);
      cuda::Vector<C, V> kept = cuda::keep_or_drop(x, draws, static_cast<uint32_t>(i), sample,
                                                   group * (V / 4), a.threshold[i], a.scale[i]);
      if constexpr (adds) {
#pragma unroll
        for (int v = 0; v < V; ++v) kept.at[v] += onto.at[v];
      }
      const cuda::Vector<O, V> y = cuda::narrow<O, V>(kept);
      if constexpr (aligned) {
        cuda::store_vector<V>(to, y);
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v)
          if (v < here) to[v] = y.at[v];
      }
    }
  }
}

// Of some samples at a time, where all of them are too many to count.
template <class T, class O> void launch(const DropoutPasses<T, O>& all) {
  constexpr int V = kPerThread<T, O>;
  const int64_t per_row = (all.row + V - 1) / V, most = std::max<int64_t>(1, kMostTasks / per_row);
  const bool aligned = cuda::takes_row_vectors<V>(all.row, all.x, static_cast<const O*>(all.y), all.onto);
  DropoutPasses<T, O> a = all;
  for (int64_t first = 0; first < all.samples; first += most) {
    a.samples = std::min(most, all.samples - first);
    const auto tasks = static_cast<uint32_t>(a.samples * per_row);
    const auto run = [&]<bool in_vectors, int passes>() {
      const auto with = [&]<bool adds>() {
        cuda::launch<dropout_kernel<T, O, in_vectors, adds, passes>>(
            "dropout", cuda::threads_for(tasks), a, cuda::SmallDivisor(static_cast<uint32_t>(per_row)), tasks);
      };
      a.onto ? with.template operator()<true>() : with.template operator()<false>();
    };
    if (!aligned) {
      run.template operator()<false, 0>();
    } else if (a.passes == 1) {
      run.template operator()<true, 1>();
    } else if (a.passes == 2) {
      run.template operator()<true, 2>();
    } else {
      run.template operator()<true, 0>();
    }
    a.x += a.samples * a.row, a.y += a.samples * a.row;
    if (a.onto) a.onto += a.samples * a.row;
    a.noise.sample_offset += static_cast<uint64_t>(a.samples);
  }
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<T, T>); });
  register_kernel(launch<bf16, float>);
  register_kernel(launch<float, bf16>);
}};

}  // namespace
}  // namespace tandem
