// Pooling: one thread for an element of what is written, which gathers in a fixed order, or one warp where
// windows are large.
#include "cuda/divisor.cuh"
#include "cuda/reduce.cuh"
#include "ops/pooling_kernel.h"

namespace tandem {
namespace {

using namespace detail;
using cuda::Divisor;
using cuda::kThreads;

// A grid of rows and columns on every map.
struct PoolGrid {
  Divisor rows, columns;
  PoolGrid(int64_t h, int64_t w) : rows(h), columns(w) {}
  __device__ int64_t locate(int64_t i, int64_t& row, int64_t& column) const {  // the map
    column = columns.divide(i);
    row = rows.divide(i);
    return i;
  }
};

// Calls body(i, map, row, column) for every element, spread over the threads.
template <class Body> __device__ void each_element(int64_t count, const PoolGrid& grid, Body body) {
  cuda::grid_stride_loop(count, [&](int64_t i) {
    int64_t row, column;
    const int64_t map = grid.locate(i, row, column);
    body(i, map, row, column);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    avg_kernel(PoolWindows windows, PoolGrid grid, int64_t count, const T* x, T* y) {
  using A = accumulate_t<T>;
  const PoolAxis &h = windows.h, &w = windows.w;
  each_element(count, grid, [&](int64_t o, int64_t map, int64_t i, int64_t j) {
    const T* source = x + map * h.map * w.map;
    A sum = 0;
    for (int64_t row = h.begin(i); row < h.end(i); ++row) {
      for (int64_t k = w.begin(j); k < w.end(j); ++k) sum += static_cast<A>(source[row * w.map + k]);
    }
    y[o] = sum / static_cast<A>(h.count(i) * w.count(j));
  });
}

// The same by a warp for each window.
template <class T>
__global__ void __launch_bounds__(kThreads)
    avg_warp_kernel(PoolWindows windows, PoolGrid grid, int64_t count, const T* x, T* y) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<cuda::kWarp>;
  const PoolAxis &h = windows.h, &w = windows.w;
  Team::for_each_row(count, [&](int64_t o, bool) {
    int64_t i, j;
    const int64_t map = grid.locate(o, i, j);
    const T* source = x + map * h.map * w.map;
    const int64_t first = w.begin(j), width = w.end(j) - first, all = (h.end(i) - h.begin(i)) * width;
    A sum = 0;
    if (width == w.map) {  // the window's rows lie one behind the other
      Team::for_each(all, [&](int64_t k) { sum += static_cast<A>(source[h.begin(i) * w.map + k]); });
    } else {
      for (int64_t row = h.begin(i); row < h.end(i); ++row)
        Team::for_each(width, [&](int64_t k) { sum += static_cast<A>(source[row * w.map + first + k]); });
    }
    sum = Team::sum(sum);
    if (Team::rank() == 0) y[o] = sum / static_cast<A>(h.count(i) * w.count(j));
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    avg_grad_kernel(PoolWindows windows, PoolGrid grid, int64_t count, const T* g, T* dx) {
  using A = accumulate_t<T>;
  const PoolAxis &h = windows.h, &w = windows.w;
  each_element(count, grid, [&](int64_t o, int64_t map, int64_t row, int64_t column) {
    const T* source = g + map * h.windows * w.windows;
    A sum = 0;
    for (int64_t i = h.first(row); i <= h.last(row); ++i) {
      for (int64_t j = w.first(column); j <= w.last(column); ++j)
        sum += static_cast<A>(source[i * w.windows + j]) / static_cast<A>(h.count(i) * w.count(j));
    }
    dx[o] = sum;
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_kernel(PoolWindows windows, PoolGrid grid, int64_t count, const T* x, T* y, int32_t* winners) {
  using C = compute_t<T>;
  const PoolAxis &h = windows.h, &w = windows.w;
  each_element(count, grid, [&](int64_t o, int64_t map, int64_t i, int64_t j) {
    const T* source = x + map * h.map * w.map;
    int64_t winner = -1;
    C best = 0;
    for (int64_t row = h.begin(i); row < h.end(i); ++row) {
      for (int64_t k = w.begin(j); k < w.end(j); ++k) {
        const C value = static_cast<C>(source[row * w.map + k]);
        if (winner < 0 || value > best || (value != value && best == best)) {
          best = value;
          winner = row * w.map + k;
        }
      }
    }
    y[o] = best;
    winners[o] = static_cast<int32_t>(winner);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(int64_t map_size, Divisor windows, int64_t count,
                                                          const T* c, const int32_t* winners, T* y) {
  cuda::grid_stride_loop(count, [&](int64_t i) {
    int64_t map = i;
    windows.divide(map);
    y[i] = c[map * map_size + winners[i]];
  });
}

// An element looks at the windows that it is in, and takes g of those that it wins.
template <class T>
__global__ void __launch_bounds__(kThreads) scatter_kernel(PoolWindows windows, PoolGrid grid, int64_t count,
                                                           const T* g, const int32_t* winners, T* dx) {
  using A = accumulate_t<T>;
  const PoolAxis &h = windows.h, &w = windows.w;
  each_element(count, grid, [&](int64_t o, int64_t map, int64_t row, int64_t column) {
    const int64_t base = map * h.windows * w.windows;
    A sum = 0;
    for (int64_t i = h.first(row); i <= h.last(row); ++i) {
      for (int64_t j = w.first(column); j <= w.last(column); ++j) {
        const int64_t at = base + i * w.windows + j;
        if (winners[at] == row * w.map + column) sum += static_cast<A>(g[at]);
      }
    }
    dx[o] = sum;
  });
}

int64_t windows_of(const PoolMaps& all) { return all.maps * all.windows.h.windows * all.windows.w.windows; }
int64_t elements_of(const PoolMaps& all) { return all.maps * all.windows.h.map * all.windows.w.map; }
PoolGrid over_windows(const PoolMaps& all) { return {all.windows.h.windows, all.windows.w.windows}; }
PoolGrid over_elements(const PoolMaps& all) { return {all.windows.h.map, all.windows.w.map}; }

template <class T> void avg_pool(const AvgPoolArgs<T>& a) {
  const int64_t count = windows_of(a);
  if (count == 0) return;
  if (elements_of(a) / count < cuda::kWarp) {
    cuda::launch<avg_kernel<T>>("avg_pool2d", cuda::threads_for(count), a.windows, over_windows(a), count,
                                a.x, a.y);
  } else {
    cuda::launch<avg_warp_kernel<T>>("avg_pool2d", cuda::Team<cuda::kWarp>::blocks_for(count), a.windows,
                                     over_windows(a), count, a.x, a.y);
  }
}

template <class T> void avg_pool_grad(const AvgPoolGradArgs<T>& a) {
  const int64_t count = elements_of(a);
  cuda::launch<avg_grad_kernel<T>>("avg_pool2d_grad", cuda::threads_for(count), a.windows, over_elements(a),
                                   count, a.g, a.dx);
}

template <class T> void max_pool(const MaxPoolArgs<T>& a) {
  const int64_t count = windows_of(a);
  cuda::launch<max_kernel<T>>("max_pool2d", cuda::threads_for(count), a.windows, over_windows(a), count, a.x,
                              a.y, a.winners);
}

template <class T> void gather_winners(const GatherWinnersArgs<T>& a) {
  const PoolAxis &h = a.windows.h, &w = a.windows.w;
  const int64_t count = windows_of(a);
  cuda::launch<gather_kernel<T>>("max_pool2d_gather", cuda::threads_for(count), h.map * w.map,
                                 Divisor(h.windows * w.windows), count, a.c, a.winners, a.y);
}

template <class T> void scatter_winners(const ScatterWinnersArgs<T>& a) {
  const int64_t count = elements_of(a);
  cuda::launch<scatter_kernel<T>>("max_pool2d_grad", cuda::threads_for(count), a.windows, over_elements(a),
                                  count, a.g, a.winners, a.dx);
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() {
    register_kernel(avg_pool<T>);
    register_kernel(avg_pool_grad<T>);
    register_kernel(max_pool<T>);
    register_kernel(gather_winners<T>);
    register_kernel(scatter_winners<T>);
  });
}};

}  // namespace
}  // namespace tandem
