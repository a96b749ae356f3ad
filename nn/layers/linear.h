// Linear: the affine map.
#pragma once

#include "nn/module.h"
#include "ops/linear.h"

namespace tandem::nn {

// x as the layers' products take it: in the PassContext's compute type where that is bf16 and x is f32, as it
// is otherwise (and outside of every context). Layers of weights call it on their input.
Tensor to_compute(const Tensor& x);

// activation(x weight^T + bias): [..., in] to [..., out]. Parameters: weight [out, in], bias [out]; both
// start in U(-1/sqrt(in), 1/sqrt(in)), as in PyTorch. ConfigError for sizes below 1.
struct Linear : Layer<Linear> {
  Linear(Module& parent, std::string name, int64_t in, int64_t out, bool with_bias = true);
  Tensor forward(const Tensor& x, Activation activation = Activation::none);

  Tensor weight, bias;  // bias is undefined without
};

}  // namespace tandem::nn
