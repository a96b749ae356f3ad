// Elementary functions, element by element. All keep the shape and the dtype (bf16, f32, f64) of x; a
// DTypeError for other dtypes. Differentiable twice, neg to any order.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor neg(const Tensor& x);  // integers, too
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
