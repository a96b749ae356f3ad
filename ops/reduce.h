// Reductions over dimensions of one pass. `dims` empty means all; keepdim leaves size 1 in their place.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor sum(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
// Variance with divisor n - correction (1: unbiased, torch's default). NaN when that is not positive.
Tensor var(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
// Its square root; torch's std, a name that C++ keeps for itself.
Tensor stddev(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
// The product; 1 of nothing. Its derivatives of every order hold at zeros, too.
Tensor prod(const Tensor& x, const Shape& dims = {}, bool keepdim = false);

}  // namespace tandem
