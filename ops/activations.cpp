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

const RegisterOp relu_op{pointwise_info("relu", relu, nonzero_input)};
const RegisterOp silu_op{pointwise_info("silu", silu, any_input)};
const RegisterOp tanh_op{pointwise_info("tanh", tanh, any_input)};
const RegisterOp sigmoid_op{pointwise_info("sigmoid", sigmoid, any_input)};
const RegisterOp softplus_op{pointwise_info("softplus", softplus, any_input)};
const RegisterOp leaky_relu_op{pointwise_info(
    "leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.3); }, nonzero_input)};
const RegisterOp elu_op{pointwise_info(
    "elu", [](const Tensor& x) { return elu(x, 0.7); }, nonzero_input)};

}  // namespace
}  // namespace tandem
