// Rows of items sorted on the device. Items are compared by <, and no two of a row are equal (an index is a
// part of them), so the result is the same in every run.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cuda/launch.cuh"
#include "cuda/walk.cuh"

namespace tandem::cuda {

// Numbers of N bits whose order is that of values of T: what items are made of. NaN is the largest and -0 is
// 0.
template <class T> __device__ auto sort_key(T x) {
  if constexpr (std::is_same_v<T, double>) {
    if (x != x) return ~uint64_t{0};
    const auto bits = std::bit_cast<uint64_t>(x + 0.0);
    return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
  } else if constexpr (std::is_same_v<T, float>) {
    if (x != x) return ~uint32_t{0};
    const auto bits = std::bit_cast<uint32_t>(x + 0.0f);
    return bits >> 31 ? ~bits : bits | uint32_t{1} << 31;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return static_cast<uint64_t>(x) ^ uint64_t { 1 } << 63;
  } else if constexpr (std::is_same_v<T, int32_t>) {
    return static_cast<uint32_t>(x) ^ uint32_t { 1 } << 31;
  } else {
    return static_cast<uint32_t>(x);
  }
}

// A key and an index below 2^32. Where the key has 32 bits both are one number.
struct WideItem {
  uint64_t key;
  uint64_t index;
  __device__ bool operator<(const WideItem& other) const {
    return key < other.key || (key == other.key && index < other.index);
  }
};
__device__ inline uint64_t make_item(uint32_t key, uint32_t index) { return uint64_t{key} << 32 | index; }
__device__ inline WideItem make_item(uint64_t key, uint32_t index) { return {key, index}; }
__device__ inline uint64_t key_of(uint64_t item) { return item >> 32; }
__device__ inline uint32_t index_of(uint64_t item) { return static_cast<uint32_t>(item); }
__device__ inline uint32_t index_of(const WideItem& item) { return static_cast<uint32_t>(item.index); }
__device__ inline void make_last(uint64_t& item) { item = ~uint64_t{0}; }  // behind all others
__device__ inline void make_last(WideItem& item) { item = {~uint64_t{0}, ~uint64_t{0}}; }

inline constexpr int kSortTile = 1024;  // items that a block sorts, one row's or those of several short ones

// Sorts runs of 2^power items, at most a tile, of which a row has as many as cover its n items: what is
// load(row, i) before goes to store(row, i, item) in order. A block does a tile of runs at once, by a network
// of exchanges.
template <class Item, class Load, class Store>
__global__ void __launch_bounds__(kSortTile / 2) sort_runs(int64_t rows, int64_t n, Divisor runs, int power,
                                                           const __grid_constant__ Load load, Store store) {
  __shared__ Item items[kSortTile];
  const int t = static_cast<int>(threadIdx.x), run = 1 << power;
  const int64_t count = rows * runs.size, per_tile = kSortTile >> power;
  for (int64_t base = blockIdx.x * per_tile; base < count; base += gridDim.x * per_tile) {
    const auto position = [&](int slot, int64_t& row, int64_t& i) {
      row = base + (slot >> power);
      const bool there = row < count;
      i = (runs.divide(row) << power) + (slot & (run - 1));
      return there && i < n;
    };
    int64_t row, i;
#pragma unroll
    for (int slot = t; slot < kSortTile; slot += kSortTile / 2) {
      if (position(slot, row, i)) {
        items[slot] = load(row, i);
      } else {
        make_last(items[slot]);
      }
    }
    __syncthreads();
    for (int size = 1; size <= power; ++size) {
      for (int distance = size - 1; distance >= 0; --distance) {
        // Thread t compares the t-th pair of those that are 2^distance apart; first of each size with the
        // mirror image in 2^size items, so that all exchanges are in one direction.
        const int low = (t >> distance << (distance + 1)) | (t & ((1 << distance) - 1));
        const int high = distance == size - 1 ? low ^ ((1 << size) - 1) : low | 1 << distance;
        const Item a = items[low], b = items[high];
        if (b < a) items[low] = b, items[high] = a;
        __syncthreads();
      }
    }
#pragma unroll
    for (int slot = t; slot < kSortTile; slot += kSortTile / 2)
      if (position(slot, row, i)) store(row, i, items[slot]);
    __syncthreads();
  }
}

// The first of [low, high) that is not before(i), which holds up to there.
template <class Before> __device__ int64_t first_not(int64_t low, int64_t high, Before before) {
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (before(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Merges neighbouring runs of `run` sorted items: an item's place is its own in its run, behind all of the
// other run that are before it.
template <class Item, class Store>
__global__ void __launch_bounds__(kThreads)
    merge_runs(const Item* items, int64_t rows, Divisor n, int64_t run, Store store) {
  grid_stride_loop(rows * n.size, [&](int64_t at) {
    int64_t row = at;
    const int64_t i = n.divide(row), pair = i & ~(2 * run - 1);
    const bool second = (i & run) != 0;
    const Item item = items[at], *other = items + row * n.size;
    const auto within = [&](int64_t end) { return end < n.size ? end : n.size; };
    const int64_t first = within(second ? pair : pair + run);
    const int64_t low = first_not(first, within(second ? pair + run : pair + 2 * run),
                                  [&](int64_t k) { return other[k] < item; });
    store(row, pair + (i & (run - 1)) + (low - first), item);
  });
}

// Stores rows of items in memory, for the next step.
template <class Item> struct StoreItem {
  Item* to;
  int64_t n;
  __device__ void operator()(int64_t row, int64_t i, const Item& item) const { to[row * n + i] = item; }
};

// Calls, on the device, store(row, i, item) for the i-th smallest item of each row, all i < n, where the
// row's items are load(row, 0) to load(row, n - 1).
template <class Item, class Load, class Store>
void sort_rows(int64_t rows, int64_t n, const Load& load, const Store& store) {
  if (rows * n == 0) return;
  const auto longest = static_cast<unsigned>(std::min<int64_t>(n, kSortTile));
  const int power = std::max(1, static_cast<int>(std::bit_width(longest - 1)));
  const int64_t run = int64_t{1} << power;
  const int64_t runs = (n + run - 1) / run, tiles = (rows * runs + kSortTile / run - 1) / (kSortTile / run);
  const auto sort = [&]<class S>(const S& to) {
    launch<sort_runs<Item, Load, S>>("sort", ResidentBlocks<kSortTile / 2>{tiles}, rows, n, Divisor(runs),
                                     power, load, to);
  };
  if (runs == 1) return sort(store);
  const Scratch memory(2 * rows * n * static_cast<int64_t>(sizeof(Item)));
  Item *from = memory.as<Item>(), *to = from + rows * n;
  sort(StoreItem<Item>{from, n});
  const auto merge = [&]<class S>(int64_t length, const S& into) {
    launch<merge_runs<Item, S>>("sort", threads_for(rows * n), from, rows, Divisor(n), length, into);
  };
  for (int64_t length = run; length < n; length *= 2) {
    if (2 * length >= n) return merge(length, store);
    merge(length, StoreItem<Item>{to, n});
    std::swap(from, to);
  }
}

// first[row][key] = how many of the row's n sorted items have a key below `key`, for all
// keys up to and including keys.size - 1.
template <class Item>
__global__ void __launch_bounds__(kThreads)
    find_keys(const Item* items, int64_t rows, int64_t n, Divisor keys, uint32_t* first) {
  grid_stride_loop(rows * keys.size, [&](int64_t at) {
    int64_t row = at;
    const auto key = static_cast<uint64_t>(keys.divide(row));
    const Item* line = items + row * n;
    first[at] = static_cast<uint32_t>(first_not(0, n, [&](int64_t k) { return key_of(line[k]) < key; }));
  });
}

// Places by key: sorted items (a key and a position) of rows of n, and where the positions of each key begin.
struct Places {
  const uint64_t* items;
  const uint32_t* first;
  int64_t n, keys;  // of a row
  __device__ const uint64_t* begin(int64_t row, int64_t key) const {
    return items + row * n + first[row * (keys + 1) + key];
  }
  __device__ int64_t count(int64_t row, int64_t key) const {
    const uint32_t* at = first + row * (keys + 1) + key;
    return at[1] - at[0];
  }
};

// Sorts positions by the keys load(row, position) makes items of, and calls use(places) while they are there.
// Items of the key `keys` are nobody's.
template <class Load, class Use>
void with_places(int64_t rows, int64_t n, int64_t keys, const Load& load, Use use) {
  const Scratch items(rows * n * static_cast<int64_t>(sizeof(uint64_t))),
      first(rows * (keys + 1) * static_cast<int64_t>(sizeof(uint32_t)));
  sort_rows<uint64_t>(rows, n, load, StoreItem<uint64_t>{items.as<uint64_t>(), n});
  launch<find_keys<uint64_t>>("sort", threads_for(rows * (keys + 1)), items.as<uint64_t>(), rows, n,
                              Divisor(keys + 1), first.as<uint32_t>());
  use(Places{items.as<uint64_t>(), first.as<uint32_t>(), n, keys});
}

}  // namespace tandem::cuda
