// GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415): gelu(x) = x Phi(x), Phi the normal distribution; exact or
// by tanh. The scalar functions are in ops/gelu_kernel.h, since linear has them fused.
#include "ops/activations.h"
#include "ops/gelu_kernel.h"
#include "ops/loops/pointwise_op.h"

namespace tandem {

Tensor gelu(const Tensor& x, Approximate approximate) {
  return approximate == Approximate::none ? detail::pointwise<detail::GeluExact>(x)
                                          : detail::pointwise<detail::GeluTanh>(x);
}

namespace {

const RegisterOp gelu_op = detail::register_pointwise("gelu", [](const Tensor& x) { return gelu(x); });
const RegisterOp gelu_tanh_op =
    detail::register_pointwise("gelu_tanh", [](const Tensor& x) { return gelu(x, Approximate::tanh); });

}  // namespace
}  // namespace tandem
