// Windows over maps, and the arguments of the pooling kernels; compiled by host and device.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"

namespace tandem::detail {

// Where the windows lie along one axis: window i is [begin(i), end(i)) inside of the map, and counts for
// count(i) in a mean. Sliding windows have a size and a stride; adaptive ones (size 0) cover the map evenly.
struct PoolAxis {
  int64_t map, windows;
  int64_t size = 0, stride = 1, padding = 0;
  bool counts_padding = false;

  constexpr bool adaptive() const { return size == 0; }
  constexpr int64_t begin(int64_t i) const {
    if (adaptive()) return i * map / windows;
    const int64_t first = i * stride - padding;
    return first > 0 ? first : 0;
  }
  constexpr int64_t end(int64_t i) const {
    if (adaptive()) return ((i + 1) * map + windows - 1) / windows;
    const int64_t last = i * stride - padding + size;
    return last < map ? last : map;
  }
  constexpr int64_t count(int64_t i) const { return counts_padding ? size : end(i) - begin(i); }

  // The windows that element k is in: first(k) .. last(k).
  constexpr int64_t first(int64_t k) const {
    if (adaptive()) return k * windows / map;
    const int64_t from = k + padding - size;
    return from < 0 ? 0 : from / stride + 1;
  }
  constexpr int64_t last(int64_t k) const {
    const int64_t at = adaptive() ? ((k + 1) * windows + map - 1) / map - 1 : (k + padding) / stride;
    return at < windows ? at : windows - 1;
  }
};

struct PoolWindows {
  PoolAxis h, w;
};

// Maps are [maps, h.map, w.map], windows [maps, h.windows, w.windows], both dense.
struct PoolMaps {
  PoolWindows windows;
  int64_t maps;
};

template <class T> struct AvgPoolArgs : PoolMaps {
  const T* x;
  T* y;
};
template <class T>
struct AvgPoolGradArgs : PoolMaps {  // every element gets its share of each window that it is in
  const T* g;
  T* dx;
};
// A device's kernels count a winner's place in its map, in 32 bits (Place); the CPU's in its window, in few.
template <class T, class Place = int32_t> struct MaxPoolArgs : PoolMaps {
  const T* x;
  T* y;
  Place* winners;  // the first of equal ones, and NaN wins
};
template <class T, class Place = int32_t>
struct GatherWinnersArgs : PoolMaps {  // y = c at the winners' places
  const T* c;
  const Place* winners;
  T* y;
};
template <class T, class Place = int32_t>
struct ScatterWinnersArgs : PoolMaps {  // dx = the sum of g over the windows that an element wins
  const T* g;
  const Place* winners;
  T* dx;
};

}  // namespace tandem::detail
