// Two-dimensional convolution (cross-correlation, as in every deep learning library).
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// The options of conv2d(). Pairs are {height, width}.
struct Conv2dOptions {
  Shape stride = {1, 1};    // pixels from window to window
  Shape padding = {0, 0};   // zeros on both sides
  Shape dilation = {1, 1};  // pixels from element to element of the kernel
  int64_t groups = 1;       // parts of the channels that are convolved apart
};

// x [N, C, H, W], weight [O, C / groups, KH, KW], bias [O] or undefined; gives [N, O, H', W'] with
// H' = (H + 2 padding - dilation (KH - 1) - 1) / stride + 1. bf16 x beside f32 parameters is mixed precision,
// as in linear. ShapeError when sizes do not fit, DTypeError for integers.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {});

}  // namespace tandem
