// Arguments of the sort kernels, compiled by host and device.
#pragma once

#include <cstdint>

namespace tandem::detail {

// The indices of the first k of each row of n values, smallest or largest first, NaN being the largest of all
// and equal values in the order of their indices.
template <class T> struct SortedIndices {
  const T* x;
  int64_t* out;
  int64_t rows, n, k;
  bool descending;
};

}  // namespace tandem::detail
