// The layers of noise. Both are the identity in evaluation mode and where p is 0; in training they need a
// PassContext (the trainer opens one), whose rates take the place of p of every Dropout in each pass.
#pragma once

#include "nn/module.h"

namespace tandem::nn {

// Zeroes elements with probability p and divides the others by 1 - p (ops/dropout.h). ConfigError unless p is
// in [0, 1).
struct Dropout : Layer<Dropout> {
  Dropout(Module& parent, std::string name, double p = 0.5);
  Tensor forward(const Tensor& x);

  const double p;
};

// Stochastic depth: zeroes whole samples of a residual branch (ops/drop_path.h).
struct DropPath : Layer<DropPath> {
  DropPath(Module& parent, std::string name, double p);
  Tensor forward(const Tensor& x);

  const double p;
};

}  // namespace tandem::nn
