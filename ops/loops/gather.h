// gather without the check of its index.
#pragma once

#include "autograd/tensor.h"

namespace tandem::detail {

// gather(x, dim, index) with an i64 index that an op has made itself, so that it is in range.
Tensor gather_known(const Tensor& x, int dim, const Tensor& index);

}  // namespace tandem::detail
