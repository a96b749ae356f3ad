// The affine map of a layer, with its activation.
#pragma once

#include "autograd/tensor.h"
#include "ops/products/activation.h"

namespace tandem {

// activation(x weight^T + bias): x [..., in], weight [out, in], bias [out] or undefined; gives [..., out].
// The dtype of the result is the widest of the three, but bf16 for bf16 x beside f32 parameters (mixed
// precision): the weight is then converted once per change of its values, and the parameters' gradients are
// summed and stay in f32. ShapeError when sizes do not fit, DTypeError for integers.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              Activation activation = Activation::none);

}  // namespace tandem
