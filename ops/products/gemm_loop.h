// The framework's own matrix product for f32 and f64: any strides, the same bits for any number of threads.
// f64 always takes it (oneDNN has no f64); f32 takes it where oneDNN has no optimised implementation.
#pragma once

#include <cstdint>

#include "ops/products/matmul_args.h"

namespace tandem::detail {

// Element strides of a batch of matrices; batch = 0 shares one matrix.
struct Strides {
  int64_t row, col, batch;
};

// c[i] = act(a[i] @ b[i] + bias) (+ c[i] if accumulate) for i in [0, batch); a [m, k], b [k, n], c [m, n],
// bias [n] or null. c must not overlap a or b. Blocks of c are computed whole, each by one thread.
template <class T>
void gemm_loop(int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, Strides as, const T* b, Strides bs,
               T* c, Strides cs, const T* bias, Activation epilogue, bool accumulate);

extern template void gemm_loop<float>(int64_t, int64_t, int64_t, int64_t, const float*, Strides, const float*,
                                      Strides, float*, Strides, const float*, Activation, bool);
extern template void gemm_loop<double>(int64_t, int64_t, int64_t, int64_t, const double*, Strides,
                                       const double*, Strides, double*, Strides, const double*, Activation,
                                       bool);

}  // namespace tandem::detail
