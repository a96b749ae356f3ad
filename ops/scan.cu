// A running sum along the innermost dimension is a block's: its threads sum a few neighbours each and learn
// what is before them. Along another dimension every column is one thread's.
#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"
#include "ops/loops/column_sums.h"
#include "ops/scan_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class A, class O, class T, int V, int threads>
__global__ void __launch_bounds__(threads) along_rows(RunningSums<A, O, T> a) {
  const int64_t groups = a.n / V;
  for (int64_t row = blockIdx.x; row < a.outer; row += gridDim.x) {
    wide_t<A> before = 0;  // the sum of all groups that the block has done
    for (int64_t base = 0; base < groups; base += threads) {
      // The group of V elements in the order of summing, and where it is in memory.
      const int64_t group = base + threadIdx.x;
      const int64_t at = row * a.n + (a.backwards ? groups - 1 - group : group) * V;
      A sums[V] = {};
      if (group < groups) {
        const auto x = cuda::load<T, V>(a.x, at, true);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const T next = a.backwards ? x.at[V - 1 - v] : x.at[v];
          sums[v] = static_cast<A>(static_cast<compute_t<T>>(next));
          if (v > 0) sums[v] += sums[v - 1];
        }
      }
      A total;
      const wide_t<A> start = before + cuda::block_sum_before<threads>(sums[V - 1], total);
      before += total;
      if (group < groups) {
        cuda::Vector<O, V> out;
#pragma unroll
        for (int v = 0; v < V; ++v)
          out.at[v] = static_cast<A>(start + (a.backwards ? sums[V - 1 - v] : sums[v]));
        cuda::store_vector<V>(a.out + at, out);
      }
    }
  }
}

template <class A, class O, class T>
__global__ void __launch_bounds__(cuda::kThreads) along_columns(RunningSums<A, O, T> a, cuda::Divisor inner) {
  cuda::grid_stride_loop(a.outer * a.inner, [&](int64_t i) {
    int64_t outer = i;
    const int64_t column = inner.divide(outer);
    int64_t at = outer * a.n * a.inner + column, next = a.inner;
    if (a.backwards) at += (a.n - 1) * a.inner, next = -a.inner;
    wide_t<A> total = 0;
#pragma unroll 4
    for (int64_t k = 0; k < a.n; ++k, at += next) {
      total += static_cast<A>(static_cast<compute_t<T>>(a.x[at]));
      a.out[at] = static_cast<A>(total);
    }
  });
}

template <class A, class O, class T, int V> void launch_rows(const RunningSums<A, O, T>& a) {
  const auto run = [&]<int threads>() {
    cuda::launch<along_rows<A, O, T, V, threads>>("cumsum", cuda::ResidentBlocks<threads>{a.outer}, a);
  };
  a.n / V <= 2 * cuda::kWarp ? run.template operator()<cuda::kWarp>()
                             : run.template operator()<cuda::kThreads>();
}

template <class A, class O, class T> void launch(const RunningSums<A, O, T>& a) {
  if (a.outer * a.n * a.inner == 0) return;
  constexpr int V = 16 / std::max(sizeof(T), sizeof(O));
  if (a.inner > 1) {
    cuda::launch<along_columns<A, O, T>>("cumsum", cuda::threads_for(a.outer * a.inner), a,
                                         cuda::Divisor(a.inner));
  } else if (cuda::takes_row_vectors<V>(a.n, a.x, static_cast<const O*>(a.out))) {
    launch_rows<A, O, T, V>(a);
  } else {
    launch_rows<A, O, T, 1>(a);
  }
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<accumulate_t<T>, T, T>); });
  cuda::for_types<bool, uint8_t, int32_t, int64_t>(
      []<class T>() { register_kernel(launch<int64_t, int64_t, T>); });
}};

}  // namespace
}  // namespace tandem
