// Arguments of the gather and scatter kernels, compiled by host and device.
#pragma once

#include "ops/loops/map.h"

namespace tandem::detail {

// out[p] = x[p with p[dim] replaced by index[p]]: the walk's operands are out, x with stride 0 along dim, and
// the index. 0 for an index outside of [0, size).
template <class T> struct GatherAlong {
  Walk<3> walk;
  T* out;
  const T* x;
  const int64_t* index;
  int64_t step, size;  // along dim of x
};

// What scatter and scatter_add do with an element of out, once for each value that comes there.
template <class T> struct Assign {
  using Out = T;
  using Value = T;
  static constexpr bool last_only = true;  // earlier values leave nothing behind
  constexpr void operator()(T& out, T value) const { out = value; }
};
template <class T, class Sum = compute_t<T>> struct Accumulate {
  using Out = Sum;
  using Value = T;
  static constexpr bool last_only = false;
  constexpr void operator()(Out& out, T value) const { out += value; }
};

// out[p with p[dim] replaced by index[p]] takes src[p], those that meet in one element in their order. The
// walk is over all dimensions but dim, its operands are out, the index and src; the rest is about dim. Values
// of an index outside of [0, size) are passed over.
template <class Write> struct WriteAlong {
  Walk<3> walk;
  typename Write::Out* out;
  const int64_t* index;
  const typename Write::Value* src;
  int64_t count, size;  // of the index and of out
  int64_t out_stride, index_stride, src_stride;
};

}  // namespace tandem::detail
