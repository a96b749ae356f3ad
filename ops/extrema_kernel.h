// Arguments of the kernels that find extreme values, compiled by host and device.
#pragma once

#include <cstdint>

namespace tandem::detail {

// True when `a` replaces the best so far, `b`: never among equals, so that the first one stays; NaN is the
// best. Without branches: written so that loops over columns vectorise.
template <bool largest, class C> constexpr bool is_better(C a, C b) {
  return (largest ? a > b : a < b) | ((a != a) & (b == b));
}

// x is [outer, n, inner], dense, n > 0; out is [outer, inner].
template <bool largest, class T> struct ArgExtremes {
  const T* x;
  int64_t* out;
  int64_t outer, n, inner;
};

}  // namespace tandem::detail
