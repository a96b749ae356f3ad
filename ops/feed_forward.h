// Two linear layers with an activation, and perhaps dropout, between them.
#pragma once

#include "autograd/pass_context.h"
#include "ops/linear.h"

namespace tandem {

// linear(linear(x, weight1, bias1, activation), weight2, bias2): x [..., in], weight1 [hidden, in], bias1
// [hidden], weight2 [out, hidden], bias2 [out]; gives [..., out]. Biases may be undefined. On a device, with
// relu or gelu_tanh, it is one op: the products of its backward apply the activation's derivative themselves,
// which saves a sweep over the hidden tensor. Dtypes and errors as of linear().
Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation);

// linear(dropout(linear(x, weight1, bias1, activation), noise), weight2, bias2), with passes as of dropout().
// On a device, for relu and both forms of gelu, one op: neither the activation nor the gradient of the
// dropout are in memory.
Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation, const Noise& noise);

}  // namespace tandem
