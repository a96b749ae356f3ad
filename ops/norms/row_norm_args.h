// Arguments of the layer and RMS norm kernels on dense rows (row_norm.h), compiled by host and device. Rows
// of all passes lie one behind the other, `rows` of each.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"
#include "ops/loops/math.h"

namespace tandem::detail {

// 1 / sqrt(var largest^2 + eps), without the square where that is large.
template <class A> constexpr A rstd_of_huge(A largest, A var, A eps) {
  const A deviation = largest * math::sqrt(var);
  return 1 / (deviation > A(1e15) ? deviation : math::sqrt(deviation * deviation + eps));
}

template <class T, class O = T> struct NormRows {
  using A = accumulate_t<T>;
  int64_t passes, rows, n;
  bool centred;  // or with mean 0
  A eps;
  const T* x;
  const A *weight, *bias;  // bias null: there is none
  int64_t weight_pass;     // from the weights of one pass to those of the next; 0 where all have the same
  O* y;
  A *mean, *rstd;
};

template <class T, class G = T> struct NormRowsGrad {
  using A = accumulate_t<T>;
  int64_t passes, rows, n;
  bool centred;
  const T* x;
  const G* g;
  const A *weight, *mean, *rstd;
  int64_t weight_pass;  // as of NormRows: 0 or n, as of the weights' gradients, which are then summed over
                        // the passes
  T* dx;                // null: not wanted
  bool adds;            // to what dx has already
  A *dweight, *dbias;   // null: not wanted; dbias alone, too
};

}  // namespace tandem::detail
