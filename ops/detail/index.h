// Checks of index tensors.
#pragma once

#include <algorithm>

#include "autograd/tensor_impl.h"

namespace tandem::detail {

// The index tensor as i64; a DTypeError naming `op` unless it holds i32 or i64, a ValueError naming the first
// value outside of [0, size).
inline Tensor checked_index(const char* op, const Tensor& index, int64_t size) {
  dispatch_index(op, index.dtype(), []<class T>() {});
  const Tensor wide = dense(index.detach().to(DType::i64));
  const int64_t* begin = wide.data<int64_t>();
  const int64_t n = wide.numel() * wide.passes();
  const int64_t* bad = std::find_if(begin, begin + n, [size](int64_t i) { return i < 0 || i >= size; });
  check<ValueError>(bad == begin + n, "{}: index {} is out of range for size {}", op,
                    bad == begin + n ? 0 : *bad, size);
  return wide;
}

}  // namespace tandem::detail
