// What the norms share: checks of their weights, and the gradient composed of recorded ops.
#pragma once

#include "autograd/op.h"

namespace tandem::detail {

// ShapeError or DTypeError when a weight or bias (`what`), if given, does not fit x.
void check_affine(const char* op, const char* what, const Tensor& parameter, const Shape& shape,
                  const Tensor& x);

// ShapeError or DTypeError unless rms_norm(), or layer_norm(), takes these.
void check_rms_norm(const Tensor& x, const Tensor& weight);
void check_layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                      const Tensor& bias);

// A weight or bias as a kernel reads it: dense, in `dtype`, with its passes in front; when it is not given,
// `value` everywhere, on `device`.
Tensor affine_values(const Tensor& parameter, const Shape& shape, DType dtype, int passes, double value,
                     Device device);

// The cotangents of x, weight and bias, recorded: y = (x - mean) rsqrt(var + eps) weight + bias with the
// mean and variance over `dims` of x (mean 0 unless `centred`). The weight broadcasts against x, as do the
// cotangents returned for weight and bias.
Tensors composed_norm_vjp(const Tensor& g, const Tensor& x, const Tensor& weight, const Shape& dims,
                          double eps, bool centred);

}  // namespace tandem::detail
