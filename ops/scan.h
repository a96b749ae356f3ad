// Running sums.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// y[k] = x[0] + ... + x[k] along dim; the shape of x. Integers and bools are summed in i64. ShapeError for a
// dim that x does not have.
Tensor cumsum(const Tensor& x, int64_t dim);

}  // namespace tandem
