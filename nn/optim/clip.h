// The norm of all gradients, and clipping by it (Pascanu et al., "On the difficulty of training recurrent
// neural networks", ICML 2013).
#pragma once

#include "autograd/tensor.h"

namespace tandem::nn {

// The 2-norm of all gradients as one vector, summed in f64, the same bits for any number of threads.
// Parameters without a gradient are skipped.
double grad_norm(const Tensors& parameters);

// Multiplies all gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm before.
// ConfigError unless max_norm >= 0. A norm that is not finite is a ValueError with error_if_nonfinite
// (nothing is changed then); without, gradients become NaN or 0, as PyTorch has it.
double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite = false);

// The same where the gradients are, without waiting for their device: f64 [2], the norm and the factor by
// which clipping multiplied (1 without it). Clipping leaves gradients alone whose norm is not finite. The
// first of the two is what Optimizer::step takes.
Tensor grad_norm_tensor(const Tensors& parameters);
Tensor clip_grad_norm_tensor(const Tensors& parameters, double max_norm);

}  // namespace tandem::nn
