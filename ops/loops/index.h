// Checks of index tensors.
#pragma once

#include <algorithm>

#include "autograd/kernel.h"
#include "ops/loops/check_index.h"

namespace tandem::detail {

[[noreturn]] inline void raise_bad_index(const char* op, int64_t index, int64_t size) {
  raise<ValueError>("{}: index {} is out of range for size {}", op, index, size);
}

// The index tensor as i64, in any strides; a DTypeError naming `op` unless it holds i32 or i64, a ValueError
// naming the first value outside of [0, size). On a device that error is thrown when the host next waits for
// it, and the op's kernel passes over such values.
inline Tensor index_in_range(const char* op, const Tensor& index, int64_t size) {
  dispatch_index(op, index.dtype(), []<class T>() {});
  const Tensor wide = index.detach().to(DType::i64);
  Shape sizes = wide.shape();  // what is repeated by stride 0 is looked at once
  for (int i = 0; i < sizes.size(); ++i)
    sizes[i] = wide.strides()[i] == 0 ? std::min<int64_t>(sizes[i], 1) : sizes[i];
  const Tensor values = dense(make_view(wide, sizes, wide.strides()));
  const int64_t n = values.numel() * values.passes();
  const PendingError error{
      [](const PendingError& e) { raise_bad_index(e.op, e.values[0], e.values[1]); }, op, {0, size}};
  if (run_on_device(values, CheckIndex{values.device_data<int64_t>(), n, error})) return wide;
  const int64_t* begin = values.data<int64_t>();
  const int64_t* bad = std::find_if(begin, begin + n, [size](int64_t i) { return i < 0 || i >= size; });
  if (bad != begin + n) raise_bad_index(op, *bad, size);
  return wide;
}

// The same, dense.
inline Tensor checked_index(const char* op, const Tensor& index, int64_t size) {
  return dense(index_in_range(op, index, size));
}

// ShapeError unless x, which selects, has one pass.
inline void check_one_pass(const char* op, const Tensor& x) {
  check<ShapeError>(
      x.passes() == 1,
      "{}: {}: expected one pass, since each would select its own number of elements; pass(i) is "
      "one of them",
      op, describe(x));
}

}  // namespace tandem::detail
