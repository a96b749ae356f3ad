// 2-d convolution on raw, dense NCHW memory: oneDNN for f32 and bf16, im2col and our own product for f64.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"
#include "ops/conv2d_kernel.h"

namespace tandem::detail {

// ShapeError (naming conv2d and the values) for sizes that make no convolution. n = 0 and c = 0 are legal.
void check_conv_shape(const ConvShape& shape);

// y = conv(x, weight) + bias. `dtype` (f32, bf16 or f64) is that of x, weight and y; bias [o] is f32 for f32
// and bf16 and f64 for f64, or null. Sums are made in f32 (f64 for f64).
void conv2d_forward(const ConvShape& shape, DType dtype, const void* x, const void* weight, const void* bias,
                    void* y);

// dx = the gradient of sum(y * dy) for x; all of type `dtype`.
void conv2d_backward_data(const ConvShape& shape, DType dtype, const void* dy, const void* weight, void* dx);

// dweight and dbias [o] (or null): the gradients of sum(y * dy). x and dy are of type `dtype`, dweight and
// dbias are f32 for f32 and bf16 and f64 for f64.
void conv2d_backward_weights(const ConvShape& shape, DType dtype, const void* x, const void* dy,
                             void* dweight, void* dbias);

}  // namespace tandem::detail
