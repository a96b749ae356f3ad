// Conv2d: two-dimensional convolution.
#pragma once

#include "nn/layers/linear.h"
#include "ops/conv2d.h"

namespace tandem::nn {

// The options of a Conv2d: those of conv2d(), and whether there is a bias. Pairs are {height, width}.
struct Conv2dConfig {
  Shape stride = {1, 1};    // pixels from window to window
  Shape padding = {0, 0};   // rows and columns of zeros, on both sides
  Shape dilation = {1, 1};  // pixels from element to element of the kernel
  int64_t groups = 1;       // parts of the channels that are convolved apart
  bool bias = true;
};

// x [N, in, H, W] to [N, out, H', W'] (ops/conv2d.h). Parameters: weight [out, in / groups, KH, KW], bias
// [out]; both start in U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as in PyTorch. Kernels are {height, width}, or one
// number for both. ConfigError for sizes below 1 and for groups that do not divide `in` and `out`, ShapeError
// as of conv2d().
struct Conv2d : Layer<Conv2d> {
  Conv2d(Module& parent, std::string name, int64_t in, int64_t out, const Shape& kernel,
         Conv2dConfig config = {});
  Conv2d(Module& parent, std::string name, int64_t in, int64_t out, int64_t kernel, Conv2dConfig config = {})
      : Conv2d(parent, std::move(name), in, out, Shape{kernel, kernel}, config) {}
  Tensor forward(const Tensor& x) {
    return conv2d(to_compute(x), weight, bias,
                  {config.stride, config.padding, config.dilation, config.groups});
  }

  const Conv2dConfig config;  // as it was made
  Parameter weight, bias;     // bias is undefined without
};

}  // namespace tandem::nn
