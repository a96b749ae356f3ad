// The norm of all gradients, and clipping by it (Pascanu, Mikolov, Bengio, "On the difficulty of training
// recurrent neural networks", ICML 2013, arXiv 1211.5063).
#pragma once

#include <limits>

#include "autograd/tensor.h"
#include "nn/optim/tensor_table.h"

namespace tandem::nn {

// The 2-norm of all gradients as one vector, summed in f64: the same bits for any number of threads. 0
// without gradients; parameters whose gradient is undefined are skipped. DeviceError for gradients of several
// devices; ShapeError, DTypeError or DeviceError for a gradient that does not fit its parameter.
double grad_norm(const Tensors& parameters);

// Multiplies all gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm before.
// ConfigError unless max_norm >= 0. A norm that is not finite is a ValueError with error_if_nonfinite, and
// changes nothing; without, gradients become NaN or 0, as in PyTorch.
double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite = false);

// Both for parameters that are measured at every step: keeps a device's table of their gradients from call to
// call. Must outlive the recordings (autograd/step_scalars.h) of which its work is part.
class GradientNorm {
 public:
  // As grad_norm and clip_grad_norm.
  double norm(const Tensors& parameters);
  double clip(const Tensors& parameters, double max_norm, bool error_if_nonfinite = false);

  // Without waiting for the gradients' device: f64 [2] there, the norm and min(1, max_norm / (norm + 1e-6)).
  // Optimizer::step takes both, and with them the gradients times that factor. Errors as of clip_grad_norm().
  Tensor norm_tensor(const Tensors& parameters, double max_norm = std::numeric_limits<double>::infinity());

 private:
  Tensor on_device(const Tensors& gradients, double max_norm, bool clips);
  TensorTable tables_[2];  // of f32 and f64
};

}  // namespace tandem::nn
