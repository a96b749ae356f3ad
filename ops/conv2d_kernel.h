// Arguments of the kernels for 2-d convolution and its gradients, on dense NCHW memory; compiled by host and
// device.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"

namespace tandem::detail {

// x [n, c, h, w], weight [o, c / groups, kh, kw], y [n, o, out_h(), out_w()]. Zeros pad both sides.
struct ConvShape {
  int64_t n, c, h, w, o, kh, kw;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1, groups = 1;

  constexpr int64_t out_h() const { return (h + 2 * pad_h - dilation_h * (kh - 1) - 1) / stride_h + 1; }
  constexpr int64_t out_w() const { return (w + 2 * pad_w - dilation_w * (kw - 1) - 1) / stride_w + 1; }
};

// y = conv(x, weight) + bias, which may be null. All of type `dtype`.
struct Conv2dArgs {
  ConvShape shape;
  DType dtype;
  const void *x, *weight, *bias;
  void* y;
};

// dx = the gradient of sum(y dy) for x.
struct Conv2dDataArgs {
  ConvShape shape;
  DType dtype;
  const void *dy, *weight;
  void* dx;
};

// dweight likewise. f32 or f64; `exact`: x and dy of f32 hold values of bf16.
struct Conv2dWeightsArgs {
  ConvShape shape;
  DType dtype;
  const void *x, *dy;
  void* dweight;
  bool exact;
};

}  // namespace tandem::detail
