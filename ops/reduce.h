// Reductions over dimensions of one pass: `dims`, or all where it is empty; keepdim leaves size 1 in their
// place. The dtype of x is kept, but sums of integers and bools are i64. ShapeError for a dim that x does not
// have or that is named twice; mean, var and stddev: DTypeError for integers.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor sum(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
// Variance with divisor n - correction (1: unbiased, torch's default). NaN when that is not positive.
Tensor var(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
// The standard deviation, the square root of var (torch.std); equal values have derivative 0.
Tensor stddev(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
// The product; 1 where there is nothing to multiply. Differentiable to any order, zeros included.
Tensor prod(const Tensor& x, const Shape& dims = {}, bool keepdim = false);

}  // namespace tandem
