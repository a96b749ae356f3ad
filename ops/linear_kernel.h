// The backward of a linear layer's bias and activation as a kernel is told of it:
//   dz = g f'(z),  sums (+)= the sums of dz's columns, which are the bias' gradient
#pragma once

#include "ops/gelu_kernel.h"
#include "ops/products/matmul_args.h"

namespace tandem::detail {

template <class T>
struct LinearSweep {
  Epilogue activation = Epilogue::none;
  const T* g = nullptr;  // [rows, cols], rows row_stride apart
  const T* z = nullptr;  // like g; for relu it may be the output, whose sign is that of z; unused for none
  T* dz = nullptr;       // dense, or null
  accumulate_t<T>* sums = nullptr;  // [cols], or null
  bool accumulate = false;          // to sums
  int64_t rows = 0, cols = 0, row_stride = 0;
};

// f'(z), or for relu f' from y.
struct SlopeNone {
  template <class T>
  static constexpr T slope(T) {
    return 1;
  }
};
struct SlopeRelu {
  template <class T>
  static constexpr T slope(T y) {
    return y > 0 ? T(1) : T(0);
  }
};
template <class Gelu>
struct SlopeGelu {
  template <class T>
  static constexpr T slope(T z) {
    return Gelu::derivative(z);
  }
};

}  // namespace tandem::detail
