// The backward pass. Nodes run by descending sequence number, which is a topological order because an op is
// recorded after the makers of its inputs: no recursion, no sort. The engine alone accumulates gradients
// and sums broadcast dimensions and passes.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Adds d<cotangent, root>/dleaf to .grad of every leaf that root depends on.
// AutogradError when root has no grad_fn, or no cotangent is given for a root that is not one number.
void backward(const Tensor& root, const Tensor& cotangent, BackwardOptions options = {});

// The gradients of <cotangent, root> with respect to `inputs` (leaves or not); no .grad is touched.
// An input that root does not depend on gets zeros.
Tensors grad(const Tensor& root, const Tensors& inputs, const Tensor& cotangent = {},
             BackwardOptions options = {});

}  // namespace tandem
