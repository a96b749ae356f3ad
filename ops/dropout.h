// Dropout (Srivastava et al. 2014), inverted: kept values are divided by 1 - p.
#pragma once

#include "autograd/pass_context.h"
#include "autograd/tensor.h"

namespace tandem {

// Drops elements of x with probability p, in [0, 1), of the current PassContext's passes: where x is the same
// in all of them the result has one copy for each. x itself when no pass drops anything.
// Noise is keyed by the current module (autograd/scope.h). AutogradError outside of a PassContext.
Tensor dropout(const Tensor& x, double p);

// The same with noise that was taken from a context before: what a backward draws again.
Tensor dropout(const Tensor& x, const Noise& noise);

}  // namespace tandem
