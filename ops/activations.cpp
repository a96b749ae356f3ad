// Activations whose derivatives are one-liners; gelu, which has two forms, is in gelu.cpp.
#include "ops/activations.h"

#include "ops/activations_kernel.h"
#include "ops/loops/pointwise_op.h"

namespace tandem {
using namespace detail;
Tensor relu(const Tensor& x) { return pointwise<Relu>(x); }
Tensor silu(const Tensor& x) { return pointwise<Silu>(x); }
Tensor tanh(const Tensor& x) { return pointwise<Tanh>(x); }
Tensor sigmoid(const Tensor& x) { return pointwise<Sigmoid>(x); }
Tensor softplus(const Tensor& x) { return pointwise<Softplus>(x); }
Tensor leaky_relu(const Tensor& x, double negative_slope) { return pointwise(x, LeakyRelu{negative_slope}); }
Tensor elu(const Tensor& x, double alpha) { return pointwise(x, Elu{alpha}); }

namespace {

constexpr auto nonzero = &SampleMaker::away_from_zero;  // not at the kink

const RegisterOp relu_op = register_pointwise("relu", relu, nonzero);
const RegisterOp silu_op = register_pointwise("silu", silu);
const RegisterOp tanh_op = register_pointwise("tanh", tanh);
const RegisterOp sigmoid_op = register_pointwise("sigmoid", sigmoid);
const RegisterOp softplus_op = register_pointwise("softplus", softplus);
const RegisterOp leaky_relu_op = register_pointwise(
    "leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.3); }, nonzero);
const RegisterOp elu_op = register_pointwise(
    "elu", [](const Tensor& x) { return elu(x, 0.7); }, nonzero);

}  // namespace
}  // namespace tandem
