// The R-Drop losses over rows: value and gradient of
//   L = [ sum over counted units of  mean_i fit(i)  +  alpha/2 * mean_{i != j} distance(i, j) ] / divisor
// for any number of passes, in O(passes * classes) per unit. Classification: fit = cross-entropy, distance =
// KL(P_i || P_j), gradient with respect to the logits. Regression: fit and distance are squared differences.
// Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", arXiv 2106.14448, section 2, Eq. 4
// (here divided by 2) and section 4.3 (m passes); appendix A.4 for regression.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"

namespace tandem::detail {

// Rows of m passes: row u of pass i starts at data + i * pass_stride + u * row_stride (strides in elements).
template <class T>
struct PassRows {
  T* data = nullptr;
  int64_t pass_stride = 0, row_stride = 0;
  constexpr T* row(int64_t pass, int64_t unit) const { return data + pass * pass_stride + unit * row_stride; }
};

struct RDropRows {
  int64_t passes = 1, units = 0, classes = 1;
  double alpha = 0;             // >= 0, in the units of the paper's Eq. 4
  double divisor = 1;           // > 0: the counted units of the whole optimizer step
  double label_smoothing = 0;   // in [0, 1]; touches the cross-entropy only
  int64_t ignore_index = -100;  // a unit with this target is not counted
};

// Over the counted units, divided by `divisor`; the loss is fit + alpha / 2 * distance.
struct RDropSums {
  double fit = 0;  // mean over passes of the cross-entropy (nats), or of the squared error
  double distance =
      0;              // mean over ordered pairs i != j of KL(P_i || P_j), or of (y_i - y_j)^2; 0 for one pass
  int64_t valid = 0;  // counted units
  int64_t correct = 0;  // counted (pass, unit) whose largest logit, the first of equals, is the target's
};

// logits [passes, units, classes], target [units], valid [units] or null (1 = counted, 0 = not).
// grad: like logits, receives dL/dlogits; null data for the value alone. It may be the logits themselves,
// with the same strides, and must not overlap them otherwise. Units that are not counted are not read and get
// zeros. Softmax arithmetic is f32 for bf16 and f32, f64 for f64. Label smoothing is (1 - s) * nll + s * mean
// over classes of -log P. Classes at -inf in all passes take no part in KL and smoothing, and get gradient 0.
// The result is the same, bit for bit, for any number of threads.
// ValueError: a label outside of [0, classes), a target at -inf, a class at -inf in only some passes, a row
// of -inf only, a NaN or +inf logit, options out of range. After an error the contents of grad are
// unspecified. T: bf16, float, double.
template <class T>
RDropSums rdrop_cross_entropy_rows(const RDropRows& rows, PassRows<const T> logits, PassRows<T> grad,
                                   const int64_t* target, const uint8_t* valid);

// The regression twin: y [passes, units], target [units]; `classes`, `label_smoothing` and `ignore_index`
// play no part. grad as above. Arithmetic in f64. ValueError: a y or target that is not finite, options out
// of range.
template <class T>
RDropSums rdrop_mse_rows(const RDropRows& rows, PassRows<const T> y, PassRows<T> grad, const T* target,
                         const uint8_t* valid);

}  // namespace tandem::detail
