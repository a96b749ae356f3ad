#include "nn/layers/linear.h"

#include <cmath>

#include "nn/layers/options.h"

namespace tandem::nn {

Linear::Linear(Module& parent, std::string name, int64_t in, int64_t out, bool with_bias)
    : Layer(parent, std::move(name)) {
  check_sizes(*this, "Linear", {in, out});
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", {out, in}, init::uniform(-bound, bound));
  if (with_bias) bias = register_parameter("bias", {out}, init::uniform(-bound, bound));
}

Tensor Linear::forward(const Tensor& x, Activation activation) { return linear(x, weight, bias, activation); }

}  // namespace tandem::nn
