// Several affine maps of one x as one.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// linear(x, weight, bias) of each, side by side, as one product: x [..., in], weights [out_i, in] of one
// dtype and as many biases [out_i], or none, give [..., the sum of out_i]. The joined weight is made once per
// change of its parts. Errors as of linear(), and ValueError for weights or biases that are missing.
Tensor joined_linear(const Tensor& x, const Tensors& weights, const Tensors& biases = {});

}  // namespace tandem
