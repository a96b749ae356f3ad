// Arguments of the kernels between the two products of a feed-forward layer with dropout, compiled by host
// and device. With the rows of all samples of a pass, keep ~ Bernoulli(1 - p) and s = 1 / (1 - p):
//   forward    h = keep s f(z)
//   backward   dz = f'(z) keep s dh,  sums = the sums of dz's columns
// z has the passes of h, or one that all of them share: dz then is the sum over passes. Of relu nothing but h
// is read: where it is above 0, it was kept and f'(z) is 1, elsewhere dz is 0.
#pragma once

#include "ops/dropout_kernel.h"
#include "ops/linear_kernel.h"

namespace tandem::detail {

// x is z, y is h; for relu's gradient x is h, too.
template <class T> struct HiddenDropout : DropoutPasses<T> { Activation activation; };

template <class T> struct HiddenDropoutGrad : HiddenDropout<T> {
  const T* g = nullptr;             // dh, like y
  T* dz = nullptr;                  // like z, its passes dz_pass apart; may be g
  int64_t dz_pass = 0;              // 0: one, summed over passes
  accumulate_t<T>* sums = nullptr;  // [cols], or null
  int64_t cols = 0;                 // divides the row of a sample
};

inline constexpr int kHiddenVector = 8;  // divides cols

}  // namespace tandem::detail
