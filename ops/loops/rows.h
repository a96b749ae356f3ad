// Kernels that go over tensors row by row, all passes alike: a row is the last dimension.
#pragma once

#include <vector>

#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "ops/loops/loop.h"

namespace tandem::detail {

// x with its passes (repeated where it is shared) in front, dense: what a kernel of an op of m passes reads.
inline Tensor dense_passes(const Tensor& x, int m) { return dense(with_pass_dim(x, m)); }

// The number of rows of x, all passes together.
inline int64_t rows_of(const Tensor& x) {
  int64_t rows = x.passes();
  for (int d = 0; d + 1 < x.dim(); ++d) rows *= x.shape()[d];
  return rows;
}

// Fetches the start of a row while the one before it is computed: hardware does not, across pages.
template <class T> void prefetch_row(const T* x, int64_t n) {
  constexpr int64_t line = 64 / sizeof(T), most = (int64_t{8} << 10) / sizeof(T);
  for (int64_t i = 0; i < std::min(n, most); i += line) __builtin_prefetch(x + i);
}

// Calls body(row) for every row of n elements.
template <class Body> void for_each_row(int64_t rows, int64_t n, Body&& body) {
  parallel_for(rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace tandem::detail
