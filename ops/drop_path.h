// DropPath, stochastic depth per sample (Huang et al. 2016, arXiv 1603.09382).
#pragma once

#include "autograd/pass_context.h"
#include "autograd/tensor.h"

namespace tandem {

// Drops whole samples of x (its leading rows, as the batch of the current PassContext divides it) with
// probability p, in [0, 1), each pass its own; kept ones are divided by 1 - p. Where x is the same in all
// passes the result has one copy for each. x itself when no pass drops anything.
// Noise is keyed by the current module (autograd/scope.h). AutogradError outside of a PassContext; ShapeError
// when the samples do not divide x.
Tensor drop_path(const Tensor& x, double p);

// The same with noise that was taken from a context before.
Tensor drop_path(const Tensor& x, const Noise& noise);

}  // namespace tandem
