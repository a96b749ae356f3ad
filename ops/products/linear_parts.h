// y = f(x W^T + b) and its gradients in parts, for linear, feed_forward and the heads of losses. Nothing here
// is recorded, but activate(). All rows of all passes and samples are one matrix.
#pragma once

#include "ops/linear.h"
#include "ops/products/matrix.h"

namespace tandem::detail {

Tensor activate(const Tensor& z, Activation activation);  // f(z)
// Of a linear layer's inputs, naming `op`: DTypeError unless all are floating, ShapeError unless x and the
// bias, if given, fit the weight [out, in]. Parts of it:
void check_linear(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias);
void check_floating(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias);
void check_bias(const char* op, const Tensor& weight, const Tensor& bias);
// The dtype of the product: the widest of the three, but bf16 for bf16 x beside f32 parameters.
DType linear_dtype(DType x, const Tensor& weight, const Tensor& bias);

struct LinearProduct {
  Tensor x, weight, bias;  // as the product takes them; args point to their memory
  MatmulArgs args;         // y = x weight^T + bias
};
LinearProduct linear_product(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y);

// dz = g f'(z), and the sums of dz's columns, in one sweep over memory; for relu z may be y. All dense, g may
// be dz; dz undefined: only sums; sums undefined: only dz.
void linear_sweep(Activation f, const Tensor& g, const Tensor& z, const Tensor& dz, const Tensor& sums);
Tensor empty_sums(const Tensor& dz);  // what they are summed in: f32 for f32 and bf16

struct LinearGradients {
  Tensor weight;  // dz^T x, of the weight's dtype
  Tensor bias;    // the sums of dz's columns
};
LinearGradients linear_gradients(const Tensor& dz, const Tensor& x, DType of_weight, bool needs_weight,
                                 bool needs_bias);

}  // namespace tandem::detail
