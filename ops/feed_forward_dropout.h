// The two linear maps of feed_forward() with dropout between them, as one op.
#pragma once

#include "autograd/pass_context.h"
#include "ops/feed_forward.h"

namespace tandem {

// linear(dropout(linear(x, weight1, bias1, activation), noise), weight2, bias2). On a device, for relu and
// both forms of gelu, neither the activation nor the gradient of the dropout are in memory.
Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation, const Noise& noise);

}  // namespace tandem
