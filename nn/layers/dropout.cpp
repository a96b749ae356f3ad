#include "nn/layers/dropout.h"

#include "ops/comparison.h"
#include "ops/drop_path.h"
#include "ops/dropout.h"

namespace tandem::nn {

namespace {

// Of the next call; none where the layer does nothing.
Noise noise_of(const Dropout& drop) {
  return drop.acts() ? PassContext::require("dropout").noise(Purpose::dropout, drop.p) : Noise{};
}

}  // namespace

Tensor Dropout::forward(const Tensor& x) { return dropout(x, noise_of(*this)); }

Tensor Dropout::forward(const Tensor& z, const Tensor& x) { return residual(x, z, noise_of(*this)); }

NormedResidual Dropout::forward(const Tensor& z, const Tensor& x, const LayerNorm& norm,
                                std::optional<DType> dtype) {
  return residual_layer_norm(x, z, noise_of(*this), norm.normalized_shape, norm.weight, norm.bias, norm.eps,
                             dtype);
}
NormedResidual Dropout::forward(const Tensor& z, const Tensor& x, const RMSNorm& norm,
                                std::optional<DType> dtype) {
  return residual_rms_norm(x, z, noise_of(*this), norm.weight, norm.eps, dtype);
}

Tensor DropPath::forward(const Tensor& x) { return acts() ? drop_path(x, p) : x; }

Tensor LayerDrop::forward(const Tensor& x, const std::function<Tensor(const Tensor&)>& layer) {
  if (!acts()) return layer(x);
  Noise noise = PassContext::require("LayerDrop").noise(Purpose::layer_drop, p);
  noise.batch = 1, noise.sample_offset = 0, noise.of_batch = true;  // one draw a pass, whatever the batch
  noise.packed = {};
  const std::optional<int> kept = noise.passes_kept();
  if (kept == 0) return x;
  if (kept == noise.passes()) return layer(x);
  const Tensor keep = ne(drop_path(ones({1}, {DType::f32, x.device()}), noise), 0);
  return where(keep, layer(x), x);
}

Tensor WordDropout::forward(const Tensor& x, const Tensor& other) {
  if (!acts()) return x;
  const Noise noise = PassContext::require("WordDropout").noise(Purpose::word_dropout, p);
  Shape each = x.shape();
  each[-1] = 1;
  return where(ne(dropout(ones(each, {DType::f32, x.device()}), noise), 0), x, other);
}

}  // namespace tandem::nn
