// The backward pass. Nodes run by descending sequence number, which is a topological order because an op is
// recorded after the makers of its inputs: no recursion, no sort. The engine alone accumulates gradients
// and sums broadcast dimensions and passes.
//
// Threads. Any number of threads may run backwards at the same time into the same leaves: each adds its whole
// gradient to .grad at once, in no fixed order. An op belongs to one backward at a time: an AutogradError
// where two threads' graphs share more than leaves and meet there. Hooks run on the thread of their backward.
// Whoever reads, assigns or clears a .grad, as optimizers do, must wait for the backwards into it.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Adds d<cotangent, root>/dleaf to .grad of every leaf that root depends on.
// AutogradError when root has no grad_fn, or no cotangent is given for a root that is not one number.
// A cotangent broadcasts to root (ShapeError otherwise), is floating (DTypeError), and where root is
// (DeviceError). The same errors, naming the op, for a hook or a vjp whose result does not fit. Example:
//
//   Tensor w = tensor({1, 2, 3}).requires_grad_();
//   (w * w).sum().backward();  // the same as backward((w * w).sum(), {})
//   fmt::print("{}\n", w.grad());  // 2, 4, 6
void backward(const Tensor& root, const Tensor& cotangent, BackwardOptions options = {});

// The gradients of <cotangent, root> with respect to `inputs` (leaves or not); no .grad is touched.
// An input that root does not depend on gets zeros. Example:
//
//   Tensor w = tensor({1, 2}).requires_grad_();
//   Tensor first = grad((w * w * w).sum(), {w}, {}, {.create_graph = true})[0];  // 3 w^2
//   Tensor second = grad(first.sum(), {w})[0];                                   // 6 w
Tensors grad(const Tensor& root, const Tensors& inputs, const Tensor& cotangent = {},
             BackwardOptions options = {});

}  // namespace tandem
