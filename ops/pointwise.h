// Pointwise functions of one tensor: unary math and activations.
//
// A function is a struct with its name and three scalar templates: value, derivative, second derivative.
// All gradients, to second order, follow from those: each is one fused kernel.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor neg(const Tensor& x);
Tensor abs(const Tensor& x);  // gradient sign(x), 0 at 0
Tensor square(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log1p(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor erf(const Tensor& x);

}  // namespace tandem
