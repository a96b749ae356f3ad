// Sorting along a dimension; ShapeError for one that x does not have. NaN counts as larger than every number;
// equal values stay in the order of x. Gradients go to where the values came from.
#pragma once

#include "ops/extrema.h"

namespace tandem {

// Values in ascending (or descending) order along dim, and where they were.
ValuesIndices sort(const Tensor& x, int64_t dim = -1, bool descending = false);
Tensor argsort(const Tensor& x, int64_t dim = -1, bool descending = false);  // the indices alone

// The k largest (smallest) values along dim: best first, or in the order of x if not sorted. ValueError
// unless 0 <= k <= size.
ValuesIndices topk(const Tensor& x, int64_t k, int64_t dim = -1, bool largest = true, bool sorted = true);

}  // namespace tandem
