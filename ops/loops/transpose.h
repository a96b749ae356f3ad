// Copies between tensors whose elements lie next to each other along different dimensions.
#pragma once

#include "ops/loops/map.h"

namespace tandem::detail {

// Copies elements of `size` (1, 2, 4 or 8) bytes from `in` to `out`, operands 1 and 0 of the walk, tile by
// tile: both are read and written by whole cache lines. False, with nothing done, unless one dimension is
// dense in `out` and another one in `in`.
bool copy_transposed(const Walk<2>& walk, int64_t size, void* out, const void* in);

}  // namespace tandem::detail
