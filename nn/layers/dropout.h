// Layers of noise: identities in evaluation mode and where p is 0. In training they need a PassContext (the
// trainer opens one; AutogradError without), whose rates replace p of every Dropout in each pass. ConfigError
// unless p is in [0, 1).
#pragma once

#include <functional>
#include <optional>

#include "nn/layers/norm.h"
#include "nn/layers/options.h"
#include "ops/residual.h"

namespace tandem::nn {

// What they share: the rate p and its check.
template <class Self> struct NoiseLayer : Layer<Self> {
  NoiseLayer(Module& parent, std::string name, double p) : Layer<Self>(parent, std::move(name)), p(p) {
    check_rate(*this, Self::kName, p);
  }
  // Whether it changes its input at all.
  bool acts() const { return this->is_training() && p > 0; }

  const double p;
};

// Zeroes elements of x, of any shape, with probability p and divides the others by 1 - p (ops/dropout.h).
// Example:
//
//   nn::Module root;
//   nn::Dropout drop{root, "drop", 0.1};
//   const PassContext passes({.seed = 1, .step = 0, .count = 2});  // an nn::Step opens one
//   Tensor noisy = drop(ones({3, 4}));                             // of two passes
struct Dropout : NoiseLayer<Dropout> {
  static constexpr const char* kName = "Dropout";  // what errors call it
  Dropout(Module& parent, std::string name, double p = 0.5) : NoiseLayer(parent, std::move(name), p) {}
  Tensor forward(const Tensor& x);
  // The end of a residual branch z: x + forward(z), in one sweep. With the norm of that in `dtype` (the sum's
  // own where there is none), for the branch that follows: on a device in the same sweep.
  Tensor forward(const Tensor& z, const Tensor& x);
  NormedResidual forward(const Tensor& z, const Tensor& x, const LayerNorm& norm,
                         std::optional<DType> dtype = {});
  NormedResidual forward(const Tensor& z, const Tensor& x, const RMSNorm& norm,
                         std::optional<DType> dtype = {});
};

// Stochastic depth: zeroes whole samples of a residual branch [B, ...] (ops/drop_path.h).
struct DropPath : NoiseLayer<DropPath> {
  static constexpr const char* kName = "DropPath";  // what errors call it
  using NoiseLayer::NoiseLayer;
  Tensor forward(const Tensor& x);
};

// LayerDrop (Fan, Grave, Joulin 2020, arXiv 1909.11556): leaves out a layer with probability p, one draw for
// each pass and call. A layer that all passes leave out is not computed and has no gradient; in a recorded
// step (TrainerOptions::cuda_graph) it is computed, and its gradient is 0. Noise within a layer that a
// forward calls several times depends on which of those calls the passes beside it leave out.
struct LayerDrop : NoiseLayer<LayerDrop> {
  static constexpr const char* kName = "LayerDrop";  // what errors call it
  using NoiseLayer::NoiseLayer;
  // layer(x), of the shape of x; x itself in the passes that leave the layer out.
  Tensor forward(const Tensor& x, const std::function<Tensor(const Tensor&)>& layer);
};

// Word dropout (Iyyer et al. 2015, ACL): replaces the vectors of whole tokens, x [B, T, D] (packed: [rows,
// D]), by `other` [D] or [1] with probability p; each pass draws its own.
struct WordDropout : NoiseLayer<WordDropout> {
  static constexpr const char* kName = "WordDropout";  // what errors call it
  using NoiseLayer::NoiseLayer;
  Tensor forward(const Tensor& x, const Tensor& other);
};

}  // namespace tandem::nn
