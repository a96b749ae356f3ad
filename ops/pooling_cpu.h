// Max pooling of maps on the CPU. A winner is its place in the window, row by row.
//
// A padded map is taken apart into planes, one for each place (a, b) within the strides: plane (a, b) has the
// elements of rows a, a + stride, ... and columns b, b + stride, ... So the elements at one place of
// neighbouring windows are neighbours, whatever kernel, stride and padding are, and all windows of a map are
// one loop for each place of a window.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "autograd/dtype.h"
#include "autograd/parallel.h"
#include "ops/loops/loop.h"
#include "ops/pooling_kernel.h"

namespace tandem::detail {

class PoolPlanes {
 public:
  explicit PoolPlanes(const PoolWindows& windows)
      : h_(windows.h),
        w_(windows.w),
        stride_h_(std::min(h_.stride, h_.map + 2 * h_.padding)),
        stride_w_(std::min(w_.stride, w_.map + 2 * w_.padding)),
        rows_((h_.map + 2 * h_.padding + stride_h_ - 1) / stride_h_),
        columns_((w_.map + 2 * w_.padding + stride_w_ - 1) / stride_w_) {}

  int64_t elements() const { return stride_h_ * stride_w_ * rows_ * columns_; }  // of all planes
  // Windows in the layout of a plane: what lies behind the last of a row is not one.
  int64_t windows() const { return (h_.windows - 1) * columns_ + w_.windows; }
  int64_t places() const { return h_.size * w_.size; }  // of a window

  // From the planes' start to the element at each place of the first window; that of window t lies t behind.
  std::vector<int64_t> offsets() const {
    std::vector<int64_t> all;
    for (int64_t y = 0; y < h_.size; ++y)
      for (int64_t x = 0; x < w_.size; ++x)
        all.push_back(((y % stride_h_ * stride_w_ + x % stride_w_) * rows_ + y / stride_h_) * columns_ +
                      x / stride_w_);
    return all;
  }

  // A map into its planes.
  template <class T, class C> void split(const T* map, C* planes) const {
    const int64_t s = stride_w_, plane = rows_ * columns_;
    for (int64_t y = 0; y < h_.map; ++y, map += w_.map) {
      const int64_t row = y + h_.padding;
      C* const line = planes + row % stride_h_ * s * plane + row / stride_h_ * columns_;
      const auto of_rest = [&](int64_t rest) {  // where elements rest, rest + s, ... of the row go
        return line + (w_.padding + rest) % s * plane + (w_.padding + rest) / s;
      };
      if (s == 2) {  // vectors for the most usual one
        C *const even = of_rest(0), *const odd = of_rest(1);
#pragma omp simd
        for (int64_t k = 0; k < w_.map / 2; ++k) even[k] = map[2 * k], odd[k] = map[2 * k + 1];
        if (w_.map % 2) even[w_.map / 2] = map[w_.map - 1];
        continue;
      }
      for (int64_t rest = 0; rest < std::min(s, w_.map); ++rest) {
        C* const to = of_rest(rest);
        for (int64_t k = 0; rest + k * s < w_.map; ++k) to[k] = map[rest + k * s];
      }
    }
  }

  // Calls copy(number of the first window, where it is in the layout of a plane, how many) for all windows.
  template <class Copy> void each_run(Copy copy) const {
    if (columns_ == w_.windows) return copy(0, 0, h_.windows * columns_);
    for (int64_t i = 0; i < h_.windows; ++i) copy(i * w_.windows, i * columns_, w_.windows);
  }

  // The first place of every window that is not padding.
  std::vector<int32_t> first_places() const {
    std::vector<int32_t> first(windows(), 0);
    for (int64_t i = 0; i < h_.windows; ++i)
      for (int64_t j = 0; j < w_.windows; ++j)
        first[i * columns_ + j] =
            static_cast<int32_t>((h_.begin(i) - (i * h_.stride - h_.padding)) * w_.size + w_.begin(j) -
                                 (j * w_.stride - w_.padding));
    return first;
  }

 private:
  PoolAxis h_, w_;
  int64_t stride_h_, stride_w_;  // a stride beyond the map is of one window
  int64_t rows_, columns_;       // of a plane
};

// Calls body(first map, end) for chunks of the maps.
template <class Body> void for_each_maps(const PoolMaps& all, Body&& body) {
  const int64_t elements = all.windows.h.map * all.windows.w.map;
  parallel_for(all.maps, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements)), body);
}

// y = the largest of every window; the first of equal ones wins, and NaN.
template <class T, class Place> void max_pool_cpu(const MaxPoolArgs<T, Place>& a) {
  using C = compute_t<T>;
  constexpr C kLowest = -std::numeric_limits<C>::infinity();
  const PoolPlanes planes(a.windows);
  const int64_t windows = planes.windows();
  const auto places = static_cast<int32_t>(planes.places());
  const std::vector<int64_t> offsets = planes.offsets();
  const std::vector<int32_t> first = planes.first_places();
  const int64_t elements = a.windows.h.map * a.windows.w.map;
  const int64_t results = a.windows.h.windows * a.windows.w.windows;
  for_each_maps(a, [&](int64_t begin, int64_t end) {
    // Padding is the lowest value, so that it never wins.
    std::vector<C> x(planes.elements(), kLowest), best(windows);
    std::vector<int32_t> winners(windows);
    for (int64_t map = begin; map < end; ++map) {
      planes.split(a.x + map * elements, x.data());
      std::copy_n(x.begin(), windows, best.begin());  // the first place
      std::copy(first.begin(), first.end(), winners.begin());
      for (int32_t place = 1; place < places; ++place) {
        const C* const values = x.data() + offsets[place];
        C* const top = best.data();
        int32_t* const winner = winners.data();
#pragma omp simd
        for (int64_t t = 0; t < windows; ++t) {
          const C v = values[t];
          const bool wins = !(v <= top[t]) & (top[t] == top[t]);  // larger, or the first NaN
          top[t] = wins ? v : top[t];
          winner[t] = wins ? place : winner[t];
        }
      }
      planes.each_run([&](int64_t window, int64_t at, int64_t count) {
        T* const y = a.y + map * results + window;
        Place* const out = a.winners + map * results + window;
        for (int64_t k = 0; k < count; ++k) y[k] = static_cast<T>(best[at + k]);
        for (int64_t k = 0; k < count; ++k) out[k] = static_cast<Place>(winners[at + k]);
      });
    }
  });
}

// From a winner's place in its window to that in the map.
template <class Place> struct WinnerPlaces {
  PoolAxis h, w;
  int64_t elements = h.map * w.map, windows = h.windows * w.windows;  // of a map
  std::vector<int64_t> offset;                                        // in the map, of each place

  explicit WinnerPlaces(const PoolWindows& all) : h(all.h), w(all.w) {
    for (int64_t y = 0; y < h.size; ++y)
      for (int64_t x = 0; x < w.size; ++x) offset.push_back(y * w.map + x);
  }
  // Calls f(window, its winner's place in the map) for the windows of a map.
  template <class F> void each(const Place* places, F&& f) const {
    for (int64_t i = 0, window = 0; i < h.windows; ++i) {
      const int64_t row = (i * h.stride - h.padding) * w.map - w.padding;
      for (int64_t j = 0; j < w.windows; ++j, ++window)
        f(window, row + j * w.stride + offset[places[window]]);
    }
  }
};

// dx = the sum of g over the windows that an element wins.
template <class T, class Place> void scatter_winners_cpu(const ScatterWinnersArgs<T, Place>& a) {
  using A = accumulate_t<T>;
  const WinnerPlaces<Place> at(a.windows);
  for_each_maps(a, [&](int64_t begin, int64_t end) {
    std::vector<A> sums(at.elements);
    for (int64_t map = begin; map < end; ++map) {
      T* const dx = a.dx + map * at.elements;
      const T* const g = a.g + map * at.windows;
      if constexpr (std::is_same_v<T, A>) {
        std::fill_n(dx, at.elements, T(0));
        at.each(a.winners + map * at.windows, [&](int64_t window, int64_t place) { dx[place] += g[window]; });
      } else {
        std::fill(sums.begin(), sums.end(), A(0));
        at.each(a.winners + map * at.windows,
                [&](int64_t window, int64_t place) { sums[place] += static_cast<A>(g[window]); });
        std::transform(sums.begin(), sums.end(), dx, [](A sum) { return static_cast<T>(sum); });
      }
    }
  });
}

// y = c at the winners' places.
template <class T, class Place> void gather_winners_cpu(const GatherWinnersArgs<T, Place>& a) {
  const WinnerPlaces<Place> at(a.windows);
  for_each_maps(a, [&](int64_t begin, int64_t end) {
    for (int64_t map = begin; map < end; ++map) {
      const T* const c = a.c + map * at.elements;
      T* const y = a.y + map * at.windows;
      at.each(a.winners + map * at.windows, [&](int64_t window, int64_t place) { y[window] = c[place]; });
    }
  });
}

}  // namespace tandem::detail
