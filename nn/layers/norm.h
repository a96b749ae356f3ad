// Layers of normalisation (ops/norms/norms.h has the formulas). Scales start at 1, shifts at 0. ConfigError
// for sizes below 1, ShapeError for inputs that do not fit.
#pragma once

#include <optional>

#include "nn/module.h"
#include "ops/norms/norms.h"

namespace tandem::nn {

// The options of a LayerNorm.
struct LayerNormOptions {
  double eps = 1e-5;  // added to the variance
  bool bias = true;   // whether there is a shift
};
// Over the trailing dimensions `normalized_shape`; parameters weight and bias of that shape (Ba, Kiros,
// Hinton 2016, arXiv 1607.06450). Example:
//
//   nn::Module root;                      // in a model: nn::LayerNorm norm{*this, "norm", 8};
//   nn::LayerNorm norm{root, "norm", 8};
//   Tensor y = norm(randn({2, 5, 8}, {.seed = 1}));
struct LayerNorm : Layer<LayerNorm> {
  LayerNorm(Module& parent, std::string name, const Shape& normalized_shape, LayerNormOptions options = {});
  LayerNorm(Module& parent, std::string name, int64_t size, LayerNormOptions options = {})
      : LayerNorm(parent, std::move(name), Shape{size}, options) {}
  // In `dtype`, x's own where there is none: what only products read is of compute_dtype()
  // (nn/layers/linear.h).
  Tensor forward(const Tensor& x, std::optional<DType> dtype = {});

  const Shape normalized_shape;
  const double eps;        // added to the variance
  Parameter weight, bias;  // bias is undefined without
};

// Over the last dimension; parameter weight [size] (Zhang, Sennrich 2019, arXiv 1910.07467).
struct RMSNorm : Layer<RMSNorm> {
  RMSNorm(Module& parent, std::string name, int64_t size, double eps = 1e-6);
  Tensor forward(const Tensor& x, std::optional<DType> dtype = {});  // as of LayerNorm

  const double eps;  // added to the mean square
  Parameter weight;
};

// The options of a BatchNorm2d.
struct BatchNormOptions {
  double eps = 1e-5;      // added to the variance
  double momentum = 0.1;  // of the running statistics: (1 - momentum) * running + momentum * batch
  bool relu = false;      // of the result: sooner than relu(norm(x))
};
// x [N, C, H, W], over all but the channels; parameters weight and bias, buffers running_mean and
// running_var, all [C] (Ioffe, Szegedy 2015, arXiv 1502.03167). In training each pass is normalised by its
// own batch statistics. They reach the running ones in commit_statistics, once per optimizer step, as the
// average over the step's passes and micro-batches; a forward that a plan runs again
// (PassOptions::updates_statistics) counts once. AutogradError in eval mode while some have not.
struct BatchNorm2d : Layer<BatchNorm2d> {
  BatchNorm2d(Module& parent, std::string name, int64_t channels, BatchNormOptions options = {});
  Tensor forward(const Tensor& x);
  void commit_statistics() override;
  void discard_statistics() override { pending_count_ = 0; }

  const BatchNormOptions options;  // as it was made
  Parameter weight, bias;
  Tensor running_mean, running_var;

 private:
  BatchStatistics pending_;  // summed over passes and micro-batches
  int pending_count_ = 0;
};

}  // namespace tandem::nn
