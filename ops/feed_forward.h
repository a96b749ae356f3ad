// Two linear layers with an activation between them.
#pragma once

#include "ops/linear.h"

namespace tandem {

// linear(linear(x, weight1, bias1, activation), weight2, bias2), as one op where a device's products can
// apply the activation's derivative: the backward then goes over the hidden tensor once less. x [..., in],
// weight1 [hidden, in], weight2 [out, hidden]; biases [hidden] and [out] or undefined; gives [..., out].
// Throws as linear.
Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation);

}  // namespace tandem
