// Running sums.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// y[k] = x[0] + ... + x[k] along dim; the shape of x. Integers and bools are summed in i64, floats in
// f64 (each y is rounded once; on a device, along the last dim, stretches of up to 2048 values in f32 first).
// ShapeError for a dim that x does not have.
Tensor cumsum(const Tensor& x, int64_t dim);

}  // namespace tandem
