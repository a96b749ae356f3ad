// Softmax and its logarithms, along dimensions of one pass. Floating dtypes; bf16 is computed in f32 and
// rounded once. The largest value is taken out first, so that no exponential overflows.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// e^x / sum(e^x) along dim; the shape of x. Values of -inf get 0; a row of nothing but -inf is 0 (as in
// attention, a query that sees no key), and so is its gradient. ShapeError for a dim that x does not have.
Tensor softmax(const Tensor& x, int64_t dim);

// log(softmax(x, dim)), precise where the softmax underflows; -inf for a row of nothing but -inf.
Tensor log_softmax(const Tensor& x, int64_t dim);

// log(sum(e^x)) over dims (empty: all), which keepdim leaves as size 1. -inf, with
// gradient 0, for nothing but -inf.
Tensor logsumexp(const Tensor& x, const Shape& dims = {}, bool keepdim = false);

}  // namespace tandem
