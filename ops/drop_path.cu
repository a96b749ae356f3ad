// A team of threads takes a sample for all passes; a sample that no pass keeps is not read.
#include "cuda/reduce.cuh"
#include "ops/dropout_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock)
    drop_path_kernel(const __grid_constant__ DropPathPasses<T> a) {
  using C = compute_t<T>;
  using Team = cuda::Team<size>;
  using Values = cuda::Vector<T, V>;
  const DeviceNoise::Draws draws = a.noise.draws();
  Team::for_each_row(a.samples, [&](int64_t sample, bool live) {
    if (!live) return;
    unsigned kept = 0;
#pragma unroll 1
    for (int i = 0; i < a.passes; ++i) {
      const bool keep =
          a.threshold[i] == 0 ||
          draws.block(static_cast<uint32_t>(i), static_cast<uint64_t>(sample), 0)[0] >= a.threshold[i];
      kept |= static_cast<unsigned>(keep) << i;
    }
    Team::for_each(a.row / V, [&](int64_t part) {
      const int64_t at = sample * a.row + part * V;
      Values x{};
      if (a.x_pass == 0 && kept != 0) x = *reinterpret_cast<const Values*>(a.x + at);
#pragma unroll 1
      for (int i = 0; i < a.passes; ++i) {
        const bool keep = kept >> i & 1;
        if (a.x_pass != 0 && keep) x = *reinterpret_cast<const Values*>(a.x + i * a.x_pass + at);
        Values y;
#pragma unroll
        for (int v = 0; v < V; ++v)  // 0 whatever x was, also NaN
          y.at[v] = keep ? static_cast<C>(x.at[v]) * a.scale[i] : C(0);
        *reinterpret_cast<Values*>(a.y + i * a.y_pass + at) = y;
      }
    });
  });
}

template <class T> void launch(const DropPathPasses<T>& a) {
  const auto in_vectors = [&]<int V>() {
    cuda::with_team(a.row / V, [&]<int size>() {
      cuda::launch<drop_path_kernel<T, V, size>>("drop_path", cuda::Team<size>::blocks_for(a.samples), a);
    });
  };
  constexpr int V = 16 / sizeof(T);
  const bool whole = cuda::takes_row_vectors<V>(a.row, a.x, static_cast<const T*>(a.y));
  whole ? in_vectors.template operator()<V>() : in_vectors.template operator()<1>();
}

const RegisterKernels registered{[] { cuda::for_floats([]<class T>() { register_kernel(launch<T>); }); }};

}  // namespace
}  // namespace tandem
