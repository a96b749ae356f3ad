// The gradient sorts the positions by index first. Then a warp sums the positions of a row of the table, or a
// block where there are many of them, always in the same order.
#include "autograd/error.h"
#include "cuda/reduce.cuh"
#include "cuda/sort.cuh"
#include "ops/embedding_kernel.h"
#include "ops/loops/column_sums.h"

namespace tandem {
namespace {

using namespace detail;

template <class T, int V>
__global__ void __launch_bounds__(cuda::kThreads) rows_kernel(TableRows<T> a, cuda::Divisor width) {
  cuda::grid_stride_loop(a.count * width.size, [&](int64_t i) {
    int64_t position = i;
    const int64_t column = width.divide(position) * V, row = a.index[position];
    cuda::Vector<T, V> values{};
    if (static_cast<uint64_t>(row) < static_cast<uint64_t>(a.rows) && row != a.zero_row)
      values = cuda::load_vector<V>(a.table + row * a.width + column);
    cuda::store_vector<V>(a.out + i * V, values);
  });
}

template <class T> void copy_rows(const TableRows<T>& a) {
  if (a.count * a.width == 0) return;
  const auto run = [&]<int V>() {
    cuda::launch<rows_kernel<T, V>>("embedding", cuda::threads_for(a.count * a.width / V), a,
                                    cuda::Divisor(a.width / V));
  };
  constexpr int V = 16 / sizeof(T);
  cuda::takes_row_vectors<V>(a.width, a.table, static_cast<const T*>(a.out)) ? run.template operator()<V>()
                                                                             : run.template operator()<1>();
}

// Items: a row of the table, and a position. Those without a row are behind all others.
struct LoadRow {
  const int64_t* index;
  int64_t rows;
  __device__ uint64_t operator()(int64_t, int64_t i) const {
    const auto row = static_cast<uint64_t>(index[i]);
    const uint64_t key = row < static_cast<uint64_t>(rows) ? row : static_cast<uint64_t>(rows);
    return cuda::make_item(static_cast<uint32_t>(key), static_cast<uint32_t>(i));
  }
};

constexpr int64_t kMany = 64;  // positions of a row from which on a block is faster than a warp

// total += the V elements of g from `column` on at each `step`-th position of a row.
template <class A, class T, int V>
__device__ void add_positions(const TableRowSums<T>& a, const uint64_t* items, int64_t count, int64_t from,
                              int64_t step, int64_t column, A (&total)[V]) {
#pragma unroll 4
  for (int64_t p = from; p < count; p += step) {
    const auto x = cuda::load<T, V>(a.g, cuda::index_of(items[p]) * a.width + column, true);
#pragma unroll
    for (int v = 0; v < V; ++v) total[v] += static_cast<A>(x.at[v]);
  }
}
template <class A, class T, int V>
__device__ void store_sums(const TableRowSums<T>& a, int64_t row, int64_t column, const A (&total)[V]) {
  cuda::Vector<T, V> out;
#pragma unroll
  for (int v = 0; v < V; ++v) out.at[v] = total[v];
  cuda::store_vector<V>(a.out + row * a.width + column, out);
}

template <class T>
__device__ int64_t count_of(const TableRowSums<T>& a, const cuda::Places& places, int64_t row) {
  return row == a.zero_row ? 0 : places.count(0, row);
}

template <class T, int V>
__global__ void __launch_bounds__(cuda::kThreads) sum_few(TableRowSums<T> a, cuda::Places places) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<cuda::kWarp>;
  Team::for_each_row(a.rows, [&](int64_t row, bool) {
    const int64_t count = count_of(a, places, row);
    if (count >= kMany) return;
    const uint64_t* items = places.begin(0, row);
    Team::for_each(a.width / V, [&](int64_t group) {
      A total[V] = {};
      add_positions<A>(a, items, count, 0, 1, group * V, total);
      store_sums(a, row, group * V, total);
    });
  });
}

// A warp for every kWarp groups of columns and kThreads / kWarp-th of the positions.
template <class T, int V>
__device__ void sum_by_block(const TableRowSums<T>& a, const cuda::Places& places, int64_t row) {
  using A = accumulate_t<T>;
  struct Sums {
    A at[V];
  };
  constexpr int warps = cuda::kThreads / cuda::kWarp;
  __shared__ Sums shared[warps][cuda::kWarp];
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp,
            warp = static_cast<int>(threadIdx.x) / cuda::kWarp;
  const int64_t count = places.count(0, row), groups = a.width / V;
  for (int64_t base = 0; base < groups; base += cuda::kWarp) {
    const int64_t group = base + lane;
    // Stretches of positions, lest a sum stops growing.
    wide_t<A> whole[V] = {};
    for (int64_t begin = 0; group < groups && begin < count; begin += kStretch * warps) {
      const int64_t end = count - begin < kStretch * warps ? count : begin + kStretch * warps;
      Sums stretch{};
      add_positions<A>(a, places.begin(0, row), end, begin + warp, warps, group * V, stretch.at);
#pragma unroll
      for (int v = 0; v < V; ++v) whole[v] += stretch.at[v];
    }
    Sums total;
#pragma unroll
    for (int v = 0; v < V; ++v) total.at[v] = static_cast<A>(whole[v]);
    shared[warp][lane] = total;
    __syncthreads();
    if (warp == 0 && group < groups) {
      for (int w = 1; w < warps; ++w) {
#pragma unroll
        for (int v = 0; v < V; ++v) total.at[v] += shared[w][lane].at[v];
      }
      store_sums(a, row, group * V, total.at);
    }
    __syncthreads();
  }
}

// Every block looks for its rows among those that are gridDim.x apart: the frequent ones are often
// neighbours.
template <class T, int V>
__global__ void __launch_bounds__(cuda::kThreads, 1) sum_many(TableRowSums<T> a, cuda::Places places) {
  __shared__ bool is_many[cuda::kThreads];
  for (int64_t base = blockIdx.x; base < a.rows; base += static_cast<int64_t>(gridDim.x) * cuda::kThreads) {
    const int64_t own = base + static_cast<int64_t>(gridDim.x) * threadIdx.x;
    const bool many = own < a.rows && count_of(a, places, own) >= kMany;
    is_many[threadIdx.x] = many;
    if (!__syncthreads_or(many)) continue;
    for (int t = 0; t < cuda::kThreads; ++t)
      if (is_many[t]) sum_by_block<T, V>(a, places, base + static_cast<int64_t>(gridDim.x) * t);
    __syncthreads();
  }
}

template <class T> void sum_rows(const TableRowSums<T>& a) {
  if (a.rows * a.width == 0) return;
  constexpr int64_t kLimit = int64_t{1} << 32;
  check<ValueError>(a.count < kLimit && a.rows < kLimit - 1,
                    "embedding: {} indices into {} rows, expected less than 2^32 on this device", a.count,
                    a.rows);
  cuda::with_places(1, a.count, a.rows, LoadRow{a.index, a.rows}, [&](const cuda::Places& places) {
    const auto run = [&]<int V>() {
      cuda::launch<sum_few<T, V>>("embedding", cuda::Team<cuda::kWarp>::blocks_for(a.rows), a, places);
      if (a.count >= kMany) cuda::launch<sum_many<T, V>>("embedding", cuda::blocks_for(a.rows), a, places);
    };
    constexpr int V = 16 / sizeof(T);
    cuda::takes_row_vectors<V>(a.width, a.g, static_cast<const T*>(a.out)) ? run.template operator()<V>()
                                                                           : run.template operator()<1>();
  });
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() {
    register_kernel(copy_rows<T>);
    register_kernel(sum_rows<T>);
  });
}};

}  // namespace
}  // namespace tandem
