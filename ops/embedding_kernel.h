// Arguments of the embedding kernels, compiled by host and device. Indices outside of [0, rows) give zeros,
// and no gradient.
#pragma once

#include <cstdint>

namespace tandem::detail {

// out[i] = table[index[i]], rows of `width` elements; zeros where index[i] is `zero_row` (-1: nowhere).
template <class T> struct TableRows {
  const T* table;
  const int64_t* index;
  T* out;
  int64_t count, width, rows, zero_row;
};

// out[v] = the sum of g[i] over all i with index[i] = v, 0 for v = zero_row.
template <class T> struct TableRowSums {
  const T* g;
  const int64_t* index;
  T* out;
  int64_t count, width, rows, zero_row;
};

}  // namespace tandem::detail
