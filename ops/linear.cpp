// y = f(z), z = x W^T + b; with the cotangent g of y:
//   dz = g f'(z),  dx = dz W,  dW = dz^T x,  db = the sum of dz's rows
// All rows of all passes and samples are one matrix, so each product is ONE 2-d product. Where nothing is
// recorded, b and f run in the product's epilogue. A recorded relu does too (f'(z) follows from y); gelu
// keeps z for the backward. dz and db are made in one sweep over memory.
#include "ops/linear.h"

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"
#include "ops/products/linear_parts.h"
#include "ops/products/packed_weight.h"

namespace tandem {
namespace {

struct Linear final : Op {
  Activation activation;
  DType dtype;  // of the product
  Linear(Activation activation, DType dtype) : activation(activation), dtype(dtype) {}
  const char* name() const override { return "linear"; }

  Tensor forward(const Tensors& in) override {
    const Tensor &x = in[0], &weight = in[1];
    Shape shape = x.shape();
    shape[x.dim() - 1] = weight.shape()[0];
    const Tensor y = output(shape, dtype, x.device());
    const bool keeps_z = recording() && derivative_needs_input(activation);
    // A device's product can write z beside y, for the tanh form of gelu only.
    const bool writes_both = keeps_z && activation == Activation::gelu_tanh && y.device() != kCpu;
    const Tensor z = writes_both ? empty_like(y) : y;
    detail::LinearProduct product = detail::linear_product(x, weight, in[2], y);
    if (!keeps_z || writes_both) product.args.epilogue = activation;
    if (writes_both) product.args.preactivation = z.device_raw();
    if (!detail::packed_product(product.weight, product.args)) detail::matmul_on(y, product.args);
    save(x), save(weight), save(in[2]);
    if (writes_both) return save(z), y;
    if (keeps_z) return detail::activate(save(z), activation);
    return activation == Activation::relu ? save_output(y) : y;
  }

  Tensors vjp(const Tensor& g) override {
    const Tensor x = saved(0), weight = saved(1);
    if (grad_enabled()) return recorded_vjp(g, x, weight);
    Tensor dz = g, dbias;
    if (activation != Activation::none) {
      const Tensor cotangent = dense(g);
      dz = empty_like(cotangent);
      if (needs(2)) dbias = detail::empty_sums(dz);
      const Tensor z = saved(3).detach();
      detail::linear_sweep(activation, cotangent, z, dz, dbias);
    }
    const detail::LinearGradients gradients =
        detail::linear_gradients(dz, x, weight.dtype(), needs(1), needs(2) && !dbias.defined());
    return {needs(0) ? matmul(dz, detail::cached_cast(weight, dtype)) : Tensor(), gradients.weight,
            dbias.defined() ? dbias : gradients.bias};
  }

  // In terms of other ops.
  Tensors recorded_vjp(const Tensor& g, const Tensor& x, const Tensor& weight) {
    Tensor dz = g;
    if (activation != Activation::none) {
      const Tensor z = linear(x, weight, saved(2));
      dz = grad(detail::activate(z, activation), {z}, g, {.create_graph = true})[0];
    }
    return {needs(0) ? matmul(dz, weight.to(dtype)) : Tensor(),
            needs(1) ? matmul(detail::fold_rows(dz).t(), detail::fold_rows(x.to(dtype)), weight.dtype())
                     : Tensor(),
            dz};
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  detail::check_linear("linear", x, weight, bias);
  const DType dtype = detail::linear_dtype(x.dtype(), weight, bias);
  if (weight.passes() > 1 || (bias.defined() && bias.passes() > 1)) {
    const Tensor z = matmul(x.to(dtype), weight.to(dtype).t());
    return detail::activate(bias.defined() ? z + bias.to(dtype) : z, activation);
  }
  return apply<Linear>({x, weight, bias}, activation, dtype);
}

namespace {

const RegisterOp linear_op("linear", [](OpCases& c) {
  const auto with = [](Activation activation) {
    return [activation](const Tensors& in) { return linear(in[0], in[1], in[2], activation); };
  };
  const auto sample = [&](const char* label, Shape x, Shape weight, bool bias, Activation activation) {
    c.sample(label, {c.normal(x), c.normal(weight), bias ? c.normal({weight[0]}) : Tensor()},
             with(activation));
  };
  sample("rows", {2, 3}, {4, 3}, true, Activation::none);
  sample("no bias", {2, 3}, {4, 3}, false, Activation::none);
  sample("vector", {3}, {4, 3}, true, Activation::none);
  sample("sequence", {2, 2, 3}, {2, 3}, true, Activation::none);
  sample("empty", {0, 3}, {4, 3}, true, Activation::none);
  sample("no inputs", {2, 0}, {3, 0}, true, Activation::gelu);
  // Away from relu's kink: |x W^T| < 0.12 beside |bias| > 0.2.
  c.sample("relu", {c.uniform({2, 3}, -0.2, 0.2), c.uniform({4, 3}, -0.2, 0.2), c.away_from_zero({4})},
           with(Activation::relu));
  sample("gelu", {2, 2, 3}, {4, 3}, true, Activation::gelu);
  sample("gelu without bias", {2, 3}, {4, 3}, false, Activation::gelu);
  sample("gelu_tanh", {2, 3}, {4, 3}, true, Activation::gelu_tanh);
  c.sample("transposed", {c.normal({3, 2}), c.normal({3, 4}), c.normal({4})},
           [](const Tensors& in) { return linear(in[0].t(), in[1].t(), in[2]); });

  const auto none = with(Activation::none);
  const Tensor x = zeros({2, 3}), weight = zeros({4, 3});
  c.fails<ShapeError>("inner", "linear: x f32[2,3] does not fit weight f32[4,5], expected x [..., 5]",
                      {x, zeros({4, 5}), {}}, none);
  c.fails<ShapeError>("bias", "linear: bias f32[3] does not fit weight f32[4,3], expected [4]",
                      {x, weight, zeros({3})}, none);
  c.fails<ShapeError>("weight", "linear: expected a weight [out, in], got f32[3]", {x, zeros({3}), {}}, none);
  c.fails<DTypeError>("i64", "linear: expected floating dtypes (bf16, f32, f64), got x i64[2,3]",
                      {x.to(DType::i64), weight, {}}, none);
});

}  // namespace
}  // namespace tandem
