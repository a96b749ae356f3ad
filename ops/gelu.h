// GELU, the activation of transformers.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Whether gelu() is exact.
enum class Approximate { none, tanh };

// x Phi(x), where Phi is the distribution function of N(0, 1), or its approximation by tanh. Keeps the shape
// and the dtype of x; a DTypeError where that is not bf16, f32 or f64.
Tensor gelu(const Tensor& x, Approximate approximate = Approximate::none);

}  // namespace tandem
