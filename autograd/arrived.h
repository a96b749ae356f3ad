// For an op's vjp: a cotangent that is added to what has arrived already, in the vjp's own sweep.
#pragma once

#include "autograd/op.h"

namespace tandem {

// Takes what other ops gave to this input of the op whose vjp() runs: dense, of the input's shape, passes and
// dtype, and the caller's to write into. The cotangent that the vjp returns for the input then includes it.
// Undefined where nothing has come, or others see it, or the sum is recorded: the engine adds.
Tensor arrived(const Op& op, size_t input);

}  // namespace tandem
