// Arguments of the elementwise kernels, compiled by host and device; see loop.h.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"
#include "autograd/limits.h"

namespace tandem::detail {

// N operands walked together: dimensions of size 1 dropped, neighbours merged where all strides allow.
template <int N> struct Walk {
  int dims = 0;
  int64_t numel = 1;
  int64_t sizes[kMaxDims + 1];
  int64_t strides[N][kMaxDims + 1];  // elements
};

// out[...] = f(in[...]...), where operand 0 of the walk is the output.
template <class F, class O, class... I> struct Map {
  Walk<sizeof...(I) + 1> walk;
  F f;
  O* out;
  const void* in[sizeof...(I) + 1];  // elements I...; one more than needed, for there may be none
};

}  // namespace tandem::detail
