// The R-Drop losses on the CPU: value and gradient of some units in one go,
//   L = [ sum over counted units of  mean_i ce(i)  +  alpha/2 * mean_{i != j} kl(i, j) ] / divisor
// for any number of passes, in O(passes * classes) per unit. Classification: ce is the cross-entropy (nats),
// kl(i, j) = KL(P_i || P_j), the gradient is with respect to the logits. Regression: both are squared
// differences. The same bits for any number of threads.
// Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", arXiv 2106.14448, section 2, Eq. 4
// (here divided by 2) and section 4.3 (m passes); appendix A.4 for regression.
#pragma once

#include "ops/rdrop/kernel.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::rdrop {

// ce and kl are divided by the divisor, which is > 0: the loss is ce + alpha / 2 * kl. grad may be the logits
// themselves, with the same strides, and must not overlap them otherwise. Units that do not count are not
// read and get zeros. Arithmetic is f32 for bf16 and f32, f64 for f64; sums over units are f64. Label
// smoothing is (1 - s) * nll + s * mean over classes of -log P. Classes at -inf in all passes take no part
// in KL and smoothing, and get gradient 0.
// ValueError: a label outside of [0, classes), a target at -inf, a class at -inf in only some passes, a row
// of -inf only, a NaN or +inf logit, options out of range. After an error the contents of grad are
// unspecified. T: bf16, float, double.
template <class T> LossSums cross_entropy_on_cpu(const CrossEntropyUnits<T>& units);

// The regression twin; `classes`, `label_smoothing` and `ignore_index` play no part. Arithmetic in f64.
// ValueError: a prediction or target that is not finite, options out of range.
template <class T> LossSums mse_on_cpu(const MseUnits<T>& units);

}  // namespace tandem::rdrop
