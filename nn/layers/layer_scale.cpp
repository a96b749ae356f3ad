#include "nn/layers/layer_scale.h"

#include "nn/layers/options.h"
#include "ops/arithmetic.h"

namespace tandem::nn {

LayerScale::LayerScale(Module& parent, std::string name, int64_t dim, double initial)
    : Layer(parent, std::move(name)) {
  check_sizes(*this, "LayerScale", {dim});
  scale = register_parameter("scale", {dim}, init::constant(initial));
}

Tensor LayerScale::forward(const Tensor& x) { return x * scale; }

}  // namespace tandem::nn
