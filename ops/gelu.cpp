// GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415): gelu(x) = x Phi(x), exact or by tanh. The formulas, with
// their derivatives, are scalar functions in ops/gelu_kernel.h. pointwise() makes an op of them: its forward
// is a loop of f(x), its vjp one of g f'(x), and the vjp of that one of g f''(x). ops/activations.cu names
// them for CUDA.
#include "ops/gelu.h"

#include "ops/gelu_kernel.h"
#include "ops/loops/pointwise_op.h"

namespace tandem {
using namespace detail;

Tensor gelu(const Tensor& x, Approximate approximate) {
  return approximate == Approximate::none ? pointwise<GeluExact>(x) : pointwise<GeluTanh>(x);
}

namespace {

// What is registered goes through every suite: gradients of both orders, dtypes, layouts, passes, devices.
const RegisterOp gelu_op = register_pointwise("gelu", [](const Tensor& x) { return gelu(x); });
const RegisterOp gelu_tanh_op =
    register_pointwise("gelu_tanh", [](const Tensor& x) { return gelu(x, Approximate::tanh); });

}  // namespace
}  // namespace tandem
