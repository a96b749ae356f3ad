// Elements with their places as whole numbers whose order is that of sorting: by value, NaN largest, then by
// place.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "autograd/dtype.h"

namespace tandem::detail {

// The key in the upper half, the place in the lower one.
template <class T> using SortKey = std::conditional_t<sizeof(compute_t<T>) == 8, unsigned __int128, uint64_t>;
template <class Key> constexpr int kKeyBits = 4 * sizeof(Key);

template <class T> SortKey<T> sort_key(T value, int64_t place, bool descending) {
  using C = compute_t<T>;
  using U = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
  constexpr U sign = std::is_unsigned_v<C> ? 0 : U(1) << (8 * sizeof(C) - 1);
  U key;
  if constexpr (std::is_floating_point_v<C>) {
    const C number = static_cast<C>(value);
    const U bits = std::bit_cast<U>(number + C(0));  // one zero
    key = number != number ? std::numeric_limits<U>::max() : bits & sign ? ~bits : bits | sign;
  } else {
    key = static_cast<U>(static_cast<C>(value)) ^ sign;
  }
  return SortKey<T>(descending ? U(~key) : key) << kKeyBits<SortKey<T>> | static_cast<U>(place);
}

template <class Key> int64_t index_of(Key key) {
  return static_cast<int64_t>(key & ((Key(1) << kKeyBits<Key>)-1));
}

// Sorts keys that are in the order of their places: byte by byte from the lowest of the values, each time
// stably; bytes that all have in common cost nothing.
template <class Key> void radix_sort(std::vector<Key>& keys) {
  constexpr int kBytes = sizeof(Key) / 2;
  std::vector<uint32_t> counts(kBytes * 256);
  for (const Key key : keys)
    for (int b = 0; b < kBytes; ++b) ++counts[b * 256 + static_cast<uint8_t>(key >> (kKeyBits<Key> + 8 * b))];
  std::vector<Key> sorted(keys.size());
  for (int b = 0; b < kBytes; ++b) {
    uint32_t* count = &counts[b * 256];
    const auto digit = [b](Key key) { return static_cast<uint8_t>(key >> (kKeyBits<Key> + 8 * b)); };
    if (count[digit(keys[0])] == keys.size()) continue;
    uint32_t sum = 0;
    for (int d = 0; d < 256; ++d) sum += std::exchange(count[d], sum);
    for (const Key key : keys) sorted[count[digit(key)]++] = key;
    keys.swap(sorted);
  }
}

// The first k keys of those in the order of their places, which they are in; sorted, or in that order.
template <class Key> void choose_first(std::vector<Key>& keys, int64_t k, bool sorted) {
  constexpr int64_t kFew = 64;
  const auto end = keys.begin() + k;
  const auto n = static_cast<int64_t>(keys.size());
  if (k < n && (k < kFew || n < kFew)) {
    std::partial_sort(keys.begin(), end, keys.end());
  } else if (n < kFew) {
    std::sort(keys.begin(), end);
  } else {
    radix_sort(keys);
  }
  if (!sorted) std::sort(keys.begin(), end, [](Key a, Key b) { return index_of(a) < index_of(b); });
}

}  // namespace tandem::detail
