// Where n is innermost a team of threads takes a row; else a block takes W columns, R threads to a column.
// Equal values: the lower index, so the order in which threads meet means nothing.
#include <bit>

#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"
#include "ops/extrema_kernel.h"

namespace tandem {
namespace {

using namespace detail;

// A candidate, in a type of 8 bytes that holds every value of C.
template <class C> struct Candidate {
  std::conditional_t<std::is_floating_point_v<C>, double, int64_t> value;
  int64_t index;
};

template <bool largest> struct Better {
  template <class A> __device__ A operator()(const A& a, const A& b) const {
    if (is_better<largest>(a.value, b.value)) return a;
    if (is_better<largest>(b.value, a.value)) return b;
    return a.index < b.index ? a : b;
  }
};

// Looks at value i, which comes after those that `best` was found among.
template <bool largest, class C> __device__ void look(C value, int64_t i, C& best, int64_t& index) {
  const bool replaces = is_better<largest>(value, best);
  best = replaces ? value : best;
  index = replaces ? i : index;
}

template <bool largest, class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock) along_rows(ArgExtremes<largest, T> a) {
  using C = compute_t<T>;
  using Team = cuda::Team<size>;
  Team::for_each_row(a.outer, [&](int64_t row, bool live) {
    const int64_t parts = a.n / V;
    int64_t part = Team::rank() < parts ? Team::rank() : 0;  // those that have none look at another's
    C best{};
    int64_t index = -1;
    for (; part < parts; part += size) {
      const auto values = cuda::load<T, V>(a.x, row * a.n + part * V, true);
      if (index < 0) best = static_cast<C>(values.at[0]), index = part * V;
#pragma unroll
      for (int v = 0; v < V; ++v) look<largest>(static_cast<C>(values.at[v]), part * V + v, best, index);
    }
    const Candidate<C> found = Team::reduce(Candidate<C>{best, index}, Better<largest>{});
    if (live && Team::rank() == 0) a.out[row] = found.index;
  });
}

struct Tiles {
  cuda::Divisor count;  // of W columns
  int width;            // W
};

template <bool largest, class T>
__global__ void __launch_bounds__(cuda::kThreads) along_columns(ArgExtremes<largest, T> a, Tiles tiles) {
  using C = compute_t<T>;
  __shared__ Candidate<C> shared[cuda::kThreads];
  const int lane = static_cast<int>(threadIdx.x) % tiles.width;
  const int first = static_cast<int>(threadIdx.x) / tiles.width, rows = cuda::kThreads / tiles.width;
  for (int64_t task = blockIdx.x; task < a.outer * tiles.count.size; task += gridDim.x) {
    int64_t outer = task;
    const int64_t column = tiles.count.divide(outer) * tiles.width + lane;
    const T* x = a.x + outer * a.n * a.inner + column;
    Candidate<C> best{};
    if (column < a.inner) {
      int64_t index = first < a.n ? first : 0;  // those that have none look at another's
      C value = static_cast<C>(x[index * a.inner]);
#pragma unroll 4
      for (int64_t i = first + rows; i < a.n; i += rows)
        look<largest>(static_cast<C>(x[i * a.inner]), i, value, index);
      best = {value, index};
    }
    for (int half = rows / 2; half > 0; half /= 2) {
      if (first >= half && first < 2 * half) shared[threadIdx.x] = best;
      __syncthreads();
      if (first < half) best = Better<largest>{}(best, shared[threadIdx.x + half * tiles.width]);
      __syncthreads();
    }
    if (first == 0 && column < a.inner) a.out[outer * a.inner + column] = best.index;
  }
}

template <bool largest> constexpr const char* name_of = largest ? "argmax" : "argmin";

template <bool largest, class T, int V> void launch_rows(const ArgExtremes<largest, T>& a) {
  cuda::with_team(a.n / V, [&]<int size>() {
    cuda::launch<along_rows<largest, T, V, size>>(name_of<largest>, cuda::Team<size>::blocks_for(a.outer), a);
  });
}

template <bool largest, class T> void launch(const ArgExtremes<largest, T>& a) {
  if (a.outer * a.inner == 0) return;
  constexpr int V = 16 / sizeof(T);
  if (a.inner == 1) {
    cuda::takes_row_vectors<V>(a.n, a.x) ? launch_rows<largest, T, V>(a) : launch_rows<largest, T, 1>(a);
  } else {
    Tiles tiles;
    tiles.width =
        cuda::kThreads / static_cast<int>(a.n >= 8 ? 8 : std::bit_floor(static_cast<uint64_t>(a.n)));
    if (a.inner < tiles.width) tiles.width = static_cast<int>(std::bit_ceil(static_cast<uint64_t>(a.inner)));
    tiles.count = cuda::Divisor((a.inner + tiles.width - 1) / tiles.width);
    cuda::launch<along_columns<largest, T>>(name_of<largest>, cuda::blocks_for(a.outer * tiles.count.size), a,
                                            tiles);
  }
}

const RegisterKernels registered{[] {
  cuda::for_all_types([]<class T>() {
    register_kernel(launch<true, T>);
    register_kernel(launch<false, T>);
  });
}};

}  // namespace
}  // namespace tandem
