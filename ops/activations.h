// Activations, element by element; gelu is in gelu.h. All keep the shape and the dtype (bf16, f32, f64) of x;
// a DTypeError for other dtypes. Differentiable twice.
#pragma once

#include "autograd/tensor.h"
#include "ops/gelu.h"

namespace tandem {

Tensor relu(const Tensor& x);      // max(x, 0); gradient 0 at 0
Tensor silu(const Tensor& x);      // x sigmoid(x)
Tensor tanh(const Tensor& x);      // (e^x - e^-x) / (e^x + e^-x)
Tensor sigmoid(const Tensor& x);   // 1 / (1 + e^-x)
Tensor softplus(const Tensor& x);  // log(1 + e^x)
Tensor leaky_relu(const Tensor& x,
                  double negative_slope = 0.01);  // x where x > 0, negative_slope x elsewhere
Tensor elu(const Tensor& x, double alpha = 1);    // x where x > 0, alpha (e^x - 1) elsewhere

}  // namespace tandem
