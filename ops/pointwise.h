// Elementary functions, element by element. All keep the shape and the dtype (bf16, f32, f64) of x; a
// DTypeError for other dtypes. Differentiable twice, neg to any order.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor neg(const Tensor& x);         // integers, too
Tensor abs(const Tensor& x);         // gradient sign(x), 0 at 0
Tensor square(const Tensor& x);      // x^2
Tensor reciprocal(const Tensor& x);  // 1 / x
Tensor exp(const Tensor& x);         // e^x
Tensor expm1(const Tensor& x);       // e^x - 1, precise near 0
Tensor log(const Tensor& x);         // to the base e
Tensor log1p(const Tensor& x);       // log(1 + x), precise near 0
Tensor sqrt(const Tensor& x);        // x^(1/2)
Tensor rsqrt(const Tensor& x);       // x^(-1/2)
Tensor sin(const Tensor& x);         // of radians
Tensor cos(const Tensor& x);         // of radians
Tensor erf(const Tensor& x);         // the error function

}  // namespace tandem
