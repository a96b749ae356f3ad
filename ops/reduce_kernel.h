// Arguments of the sum kernels, compiled by host and device.
#pragma once

#include "ops/loops/map.h"

namespace tandem::detail {

// out = the sum of x, in accumulate_t<T> and then as O. Operand 0 of the walk is out, dense, and operand 1 is
// x, both in the shape of x: out has stride 0 along what is summed.
template <class O, class T> struct SumAlong {
  Walk<2> walk;
  O* out;
  const T* x;
};

}  // namespace tandem::detail
