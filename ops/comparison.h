// Comparisons (bool tensors, not differentiable) and selection by a mask. Two tensors are broadcast and
// promoted to the wider dtype. A number beside an integer tensor is compared as a number, whether the dtype
// has it or not (0.5, or 300 beside u8); beside a floating tensor it is rounded to the tensor's dtype.
// ShapeError for shapes that do not broadcast.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);
Tensor logical_not(const Tensor& a);  // bool
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);

// condition ? a : b, all three broadcast. DTypeError where condition is not bool.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
// x with `value` where mask (broadcast) is true. DTypeError where mask is not bool, or x's dtype holds
// integers of which `value` is none.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);
// x limited to [low, high]; gradient 1 inside (bounds included), 0 outside. ValueError where low > high,
// DTypeError where x's dtype holds integers and a bound that binds is none of them.
Tensor clamp(const Tensor& x, double low, double high);

}  // namespace tandem
