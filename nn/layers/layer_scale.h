// LayerScale: a learned factor per feature (Touvron et al. 2021, arXiv 2103.17239).
#pragma once

#include "nn/module.h"

namespace tandem::nn {

// x * scale: [..., dim] to [..., dim]. Parameter: scale [dim], from `initial` on. ConfigError for dim < 1.
struct LayerScale : Layer<LayerScale> {
  LayerScale(Module& parent, std::string name, int64_t dim, double initial = 1e-4);
  Tensor forward(const Tensor& x);

  Parameter scale;
};

}  // namespace tandem::nn
