// The end of a residual branch: x + dropout(z) in one sweep, and the norm with which the next branch begins.
#pragma once

#include <optional>

#include "autograd/pass_context.h"
#include "autograd/tensor.h"

namespace tandem {

// x + dropout(z, p), where z may be bf16 beside an x of f32 and the sum is f32: nothing is cast or written in
// between, and the gradient of z is written in its dtype. Draws as dropout() at the same place does.
// x + z when no pass drops anything. ShapeError unless the shapes are equal.
Tensor residual(const Tensor& x, const Tensor& z, double p);

// The same with noise that was taken from a context before; none: x + z.
Tensor residual(const Tensor& x, const Tensor& z, const Noise& noise);

// A residual sum and its norm.
struct NormedResidual {
  Tensor sum, norm;
};

// residual(x, z, noise), and its layer_norm() (ops/norms/norms.h): two ops on the tape, which a device
// computes at once.
NormedResidual residual_layer_norm(const Tensor& x, const Tensor& z, const Noise& noise,
                                   const Shape& normalized_shape, const Tensor& weight = {},
                                   const Tensor& bias = {}, double eps = 1e-5,
                                   std::optional<DType> dtype = {});

// The same with rms_norm().
NormedResidual residual_rms_norm(const Tensor& x, const Tensor& z, const Noise& noise,
                                 const Tensor& weight = {}, double eps = 1e-6,
                                 std::optional<DType> dtype = {});

}  // namespace tandem
