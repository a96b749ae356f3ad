#include "nn/layers/conv.h"

#include <cmath>

#include "autograd/error.h"
#include "nn/layers/options.h"

namespace tandem::nn {

Conv2d::Conv2d(Module& parent, std::string name, int64_t in, int64_t out, const Shape& kernel,
               Conv2dConfig config)
    : Layer(parent, std::move(name)), config(config) {
  const Scope scope(path());
  check<ConfigError>(kernel.size() == 2, "Conv2d: expected a kernel {{height, width}}, got {}",
                     to_string(kernel));
  check_sizes(*this, "Conv2d", {in, out, kernel[0], kernel[1], config.groups});
  check<ConfigError>(in % config.groups == 0 && out % config.groups == 0,
                     "Conv2d: {} groups do not divide {} and {} channels", config.groups, in, out);
  const Shape shape{out, in / config.groups, kernel[0], kernel[1]};
  const double bound = 1 / std::sqrt(static_cast<double>(init::fans(shape).in));
  weight = register_parameter("weight", shape, init::uniform(-bound, bound));
  if (config.bias) bias = register_parameter("bias", {out}, init::uniform(-bound, bound));
}

}  // namespace tandem::nn
