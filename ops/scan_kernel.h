// Arguments of the kernels of running sums, compiled by host and device.
#pragma once

#include <cstdint>

namespace tandem::detail {

// x and out are [outer, n, inner], dense; sums in A along n, from its end where `backwards`.
template <class A, class O, class T> struct RunningSums {
  const T* x;
  O* out;
  int64_t outer, n, inner;
  bool backwards;
};

}  // namespace tandem::detail
