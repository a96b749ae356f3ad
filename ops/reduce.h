// Reductions over dimensions of one pass: `dims`, or all where it is empty; keepdim leaves size 1 in their
// place. The dtype of x is kept, but sums of integers and bools are i64. ShapeError for a dim that x does not
// have or that is named twice; mean, var and stddev: DTypeError for integers.
//
// Sums of bf16 and f32 have an error of at most 262 * 2^-24 times the sum of the magnitudes, for any number
// of terms along any dimensions of any layout, before they are rounded to the dtype: 256 terms at a time are
// added in f32, and the sums of these in f64 (on a device: in f32, by the same in up to three stages). Mean
// and variance are rounded once; the variance takes the mean out first, so that it does not cancel.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// The sum of the elements, and their mean.
Tensor sum(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
// Variance with divisor n - correction (1: unbiased, torch's default). NaN when that is not positive.
Tensor var(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
template <std::same_as<bool> B>
Tensor var(const Tensor&, const Shape&, B) = delete;  // var(x, 1, 1, true): keepdim
// The standard deviation, the square root of var (torch.std); equal values have derivative 0.
Tensor stddev(const Tensor& x, const Shape& dims = {}, double correction = 1, bool keepdim = false);
// The product; 1 where there is nothing to multiply. Differentiable to any order, zeros included.
Tensor prod(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
// Whether all, or any, of the elements are other than 0 (bool; of nothing all are and none is).
Tensor all(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor any(const Tensor& x, const Shape& dims = {}, bool keepdim = false);

}  // namespace tandem
