// Linear: the affine map.
#pragma once

#include "nn/module.h"
#include "ops/linear.h"

namespace tandem::nn {

// x as products of layers take it: f32 in the PassContext's compute type, anything else (and all outside of a
// context) unchanged. Layers with weights call it on their input.
Tensor to_compute(const Tensor& x);

// The dtype of that: of what is made for products alone.
DType compute_dtype(DType x);

// activation(x weight^T + bias): [..., in] to [..., out]. Parameters: weight [out, in], bias [out]; both
// start in U(-1/sqrt(in), 1/sqrt(in)), as in PyTorch. ConfigError for sizes below 1, ShapeError as of
// linear(). Example:
//
//   struct Regression : nn::Module {
//     nn::Linear fc{*this, "fc", 4, 1};
//     Tensor forward(const Tensor& x) { return fc(x); }
//   };
//   Tensor prediction = Regression().forward(ones({2, 4}));  // [2, 1]
struct Linear : Layer<Linear> {
  Linear(Module& parent, std::string name, int64_t in, int64_t out, bool with_bias = true);
  Tensor forward(const Tensor& x, Activation activation = Activation::none);

  Parameter weight, bias;  // bias is undefined without
};

}  // namespace tandem::nn
