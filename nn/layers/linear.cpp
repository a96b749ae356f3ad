#include "nn/layers/linear.h"

#include <cmath>

#include "autograd/pass_context.h"
#include "nn/layers/options.h"

namespace tandem::nn {

Tensor to_compute(const Tensor& x) { return x.to(compute_dtype(x.dtype())); }

DType compute_dtype(DType x) {
  const PassContext* context = PassContext::current();
  return context && x == DType::f32 ? context->options().compute : x;
}

Linear::Linear(Module& parent, std::string name, int64_t in, int64_t out, bool with_bias)
    : Layer(parent, std::move(name)) {
  check_sizes(*this, "Linear", {in, out});
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", {out, in}, init::uniform(-bound, bound));
  if (with_bias) bias = register_parameter("bias", {out}, init::uniform(-bound, bound));
}

Tensor Linear::forward(const Tensor& x, Activation activation) {
  return linear(to_compute(x), weight, bias, activation);
}

}  // namespace tandem::nn
