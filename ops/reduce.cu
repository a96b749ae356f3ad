// Sums. Where the elements that lie side by side in memory belong to one sum, a team of threads takes a sum
// ("rows"). Where they belong to sums side by side, a block takes a tile of sums, its threads in W columns of
// sums and R rows of terms ("columns"). Few sums of many terms are cut into parts, whose sums are summed by
// the same kernels. How they are cut depends on the sizes alone, so the order is the same on every device.
#include <algorithm>
#include <bit>
#include <utility>

#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"
#include "ops/loops/column_sums.h"
#include "ops/reduce_kernel.h"

namespace tandem {
namespace {

using namespace detail;

using Dims = cuda::Walker<2>;  // of out, where what is summed has stride 0, and of x

template <class T> struct Plan {
  const T* x;
  Dims kept, summed;    // in groups of V elements along the vectors' dimension
  cuda::Divisor parts;  // of each sum
  int64_t length;       // of a part, in (groups of) terms
  int64_t part_stride;  // from one part's sums to the next in out
  // For the columns: groups of V sums side by side, which are not among `kept`; tiles of W of them.
  int64_t columns = 1;
  cuda::Divisor tiles;
  int width = 1;                         // W
  int64_t x_column = 1, out_column = 1;  // strides of sums side by side
  bool out_vectors = false;              // V of them are aligned in out, wherever they begin
};

// Calls add(offset in x) for every `step`-th of the terms [begin + first, begin + n).
template <class Add>
__device__ void for_terms(const Dims& summed, int64_t begin, int64_t n, int first, int step, Add add) {
  if (summed.dims == 1) {
#pragma unroll 4
    for (int64_t i = first; i < n; i += step) add((begin + i) * summed.strides[1][0]);
  } else {
#pragma unroll 1
    for (int64_t i = first; i < n; i += step) add(summed.at(begin + i).of[1]);
  }
}

template <class O, class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock)
    sum_rows(const __grid_constant__ Plan<T> p, O* result) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<size>;
  Team::for_each_row(p.kept.numel * p.parts.size, [&](int64_t row, bool live) {
    int64_t which = row;
    const int64_t part = p.parts.divide(which);
    const Dims::Offsets at = p.kept.at(which);
    const int64_t begin = part * p.length;
    const int64_t n = p.summed.numel - begin < p.length ? p.summed.numel - begin : p.length;
    A total[V] = {};
    for_terms(p.summed, begin, n, Team::rank(), size, [&](int64_t offset) {
      const auto x = cuda::load<T, V>(p.x, at.of[1] + offset, true);
#pragma unroll
      for (int v = 0; v < V; ++v) total[v] += static_cast<A>(static_cast<compute_t<T>>(x.at[v]));
    });
#pragma unroll
    for (int v = 1; v < V; ++v) total[0] += total[v];
    total[0] = Team::sum(total[0]);
    if (live && Team::rank() == 0) result[part * p.part_stride + at.of[0]] = total[0];
  });
}

template <class O, class T, int V>
__global__ void __launch_bounds__(cuda::kThreads) sum_columns(const __grid_constant__ Plan<T> p, O* result) {
  using A = accumulate_t<T>;
  using Sums = cuda::Vector<A, V>;
  __shared__ Sums shared[cuda::kThreads];
  const int lane = static_cast<int>(threadIdx.x) % p.width, row = static_cast<int>(threadIdx.x) / p.width;
  const int rows = cuda::kThreads / p.width;
  const int64_t tasks = p.tiles.size * p.kept.numel * p.parts.size;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    int64_t which = task;
    const int64_t column = p.tiles.divide(which) * p.width + lane;
    const int64_t part = p.parts.divide(which);
    const Dims::Offsets at = p.kept.at(which);
    const int64_t begin = part * p.length;
    const int64_t n = p.summed.numel - begin < p.length ? p.summed.numel - begin : p.length;
    Sums total{};
    if (column < p.columns) {
      const int64_t base = at.of[1] + column * V * p.x_column;
      for_terms(p.summed, begin, n, row, rows, [&](int64_t offset) {
        const auto x = cuda::load<T, V>(p.x, base + offset, true);
#pragma unroll
        for (int v = 0; v < V; ++v) total.at[v] += static_cast<A>(static_cast<compute_t<T>>(x.at[v]));
      });
    }
    for (int half = rows / 2; half > 0; half /= 2) {
      if (row >= half && row < 2 * half) shared[threadIdx.x] = total;
      __syncthreads();
      if (row < half) {
        const Sums other = shared[threadIdx.x + half * p.width];
#pragma unroll
        for (int v = 0; v < V; ++v) total.at[v] += other.at[v];
      }
      __syncthreads();
    }
    if (row == 0 && column < p.columns) {
      O* out = result + part * p.part_stride + at.of[0];
      if (p.out_vectors) {
        cuda::Vector<O, V> values;
#pragma unroll
        for (int v = 0; v < V; ++v) values.at[v] = total.at[v];
        reinterpret_cast<cuda::Vector<O, V>*>(out)[column] = values;
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v) out[(column * V + v) * p.out_column] = total.at[v];
      }
    }
  }
}

template <class O, class T, int V> void run(const Plan<T>& p, bool by_columns, O* out) {
  if (by_columns) {
    cuda::launch<sum_columns<O, T, V>>("sum", cuda::blocks_for(p.tiles.size * p.kept.numel * p.parts.size), p,
                                       out);
  } else if constexpr (std::is_same_v<O, T> ||
                       std::is_same_v<O, accumulate_t<T>>) {  // sums of parts are columns
    cuda::with_team(p.summed.numel, [&]<int size>() {
      cuda::launch<sum_rows<O, T, V, size>>("sum", cuda::Team<size>::blocks_for(p.kept.numel * p.parts.size),
                                            p, out);
    });
  }
}

// Whether V elements of an operand along dimension `fast` are aligned, wherever they begin.
template <int V, class T> bool aligned(const Walk<2>& walk, int operand, int fast, const T* base) {
  const auto& strides = walk.strides[operand];
  if (strides[fast] != 1 || walk.sizes[fast] % V != 0) return false;
  if (reinterpret_cast<uintptr_t>(base) % (V * sizeof(T)) != 0) return false;
  for (int d = 0; d < walk.dims; ++d)
    if (d != fast && strides[d] % V != 0) return false;
  return true;
}

// Sets W for the columns; returns how many blocks there are before sums are cut, and the threads that share
// the terms of a part.
template <class T, int V> std::pair<int64_t, int64_t> lay_out(Plan<T>& p, bool by_columns) {
  const int64_t terms = p.summed.numel;
  std::pair<int64_t, int64_t> result;
  if (by_columns) {
    const int width = terms >= 8 ? cuda::kWarp : cuda::kThreads;  // a column's few terms are one thread's
    p.width = static_cast<int>(std::min<uint64_t>(width, std::bit_ceil(static_cast<uint64_t>(p.columns))));
    const int64_t tiles = (p.columns + p.width - 1) / p.width;
    p.tiles = cuda::Divisor(tiles);
    return {tiles * p.kept.numel, cuda::kThreads / p.width};
  }
  cuda::with_team(terms, [&]<int size>() {
    result = {(p.kept.numel + cuda::Team<size>::kRows - 1) / cuda::Team<size>::kRows, size};
  });
  return result;
}

template <class O, class T> void launch(const SumAlong<O, T>& sum);

template <class O, class T, int V> void launch_vectors(const SumAlong<O, T>& sum, int fast) {
  using A = accumulate_t<T>;
  const Walk<2>& walk = sum.walk;
  const auto is_kept = [&](int d) { return walk.strides[0][d] != 0 || walk.sizes[d] == 1; };
  const bool by_columns = is_kept(fast);
  Plan<T> p;
  p.x = sum.x;
  int64_t sums = 1;
  for (int d = 0; d < walk.dims; ++d) {
    if (is_kept(d)) sums *= walk.sizes[d];
    if (d != fast)
      (is_kept(d) ? p.kept : p.summed).add(walk.sizes[d], walk.strides[0][d], walk.strides[1][d]);
  }
  if (by_columns) {
    p.columns = walk.sizes[fast] / V;
    p.out_column = walk.strides[0][fast], p.x_column = walk.strides[1][fast];
  } else {
    p.summed.add(walk.sizes[fast] / V, 0, walk.strides[1][fast] * V);
  }

  constexpr int64_t kBlocks = 1024;  // that keep a device busy
  constexpr int64_t kLeast = 16;     // terms of a thread
  const auto [blocks, threads] = lay_out<T, V>(p, by_columns);
  const int64_t terms = p.summed.numel;
  const auto parts_of = [&, threads = threads](int64_t most) {
    return (terms + most * threads - 1) / (most * threads);
  };
  int64_t wanted = std::clamp<int64_t>(kBlocks / blocks, 1, parts_of(kLeast));
  if (std::is_floating_point_v<A>) wanted = std::max(wanted, parts_of(kStretch));  // lest sums stop growing
  p.length = (terms + wanted - 1) / wanted;
  p.part_stride = sums;
  const int64_t parts = (terms + p.length - 1) / p.length;
  p.parts = cuda::Divisor(parts);
  if (parts == 1) {
    p.out_vectors = aligned<V>(walk, 0, fast, sum.out);
    return run<O, T, V>(p, by_columns, sum.out);
  }
  const cuda::Scratch memory(parts * sums * static_cast<int64_t>(sizeof(A)));
  A* partial = memory.as<A>();
  p.out_vectors = sums % V == 0 && aligned<V>(walk, 0, fast, partial);
  run<A, T, V>(p, by_columns, partial);
  SumAlong<O, A> rest;
  rest.walk.dims = 2;
  rest.walk.numel = parts * sums;
  rest.walk.sizes[0] = parts, rest.walk.sizes[1] = sums;
  rest.walk.strides[0][0] = 0, rest.walk.strides[0][1] = 1;
  rest.walk.strides[1][0] = sums, rest.walk.strides[1][1] = 1;
  rest.x = partial, rest.out = sum.out;
  launch(rest);
}

template <class O, class T> void launch(const SumAlong<O, T>& sum) {
  const Walk<2>& walk = sum.walk;
  if (walk.numel == 0) return;
  int fast = walk.dims - 1;  // where neighbours in memory are
  const auto distance = [&](int d) {
    const int64_t stride = walk.strides[1][d];
    return stride == 0 ? INT64_MAX : stride < 0 ? -stride : stride;
  };
  for (int d = walk.dims - 1; d >= 0; --d)
    if (distance(d) < distance(fast)) fast = d;
  constexpr int V = std::min(8, static_cast<int>(16 / sizeof(T)));
  if (aligned<V>(walk, 1, fast, sum.x)) {
    launch_vectors<O, T, V>(sum, fast);
  } else {
    launch_vectors<O, T, 1>(sum, fast);
  }
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<T, T>); });
  register_kernel(launch<float, bf16>);  // to be scaled, and rounded then
  cuda::for_types<bool, uint8_t, int32_t, int64_t>([]<class T>() { register_kernel(launch<int64_t, T>); });
}};

}  // namespace
}  // namespace tandem
