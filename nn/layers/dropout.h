// The layers of noise. They change nothing in evaluation mode and where p is 0; in training they need a
// PassContext (the trainer opens one), whose rates take the place of p of every Dropout in each pass.
#pragma once

#include <functional>

#include "nn/module.h"

namespace tandem::nn {

// Zeroes elements with probability p and divides the others by 1 - p (ops/dropout.h). ConfigError unless p is
// in [0, 1).
struct Dropout : Layer<Dropout> {
  Dropout(Module& parent, std::string name, double p = 0.5);
  Tensor forward(const Tensor& x);

  const double p;
};

// Stochastic depth: zeroes whole samples of a residual branch (ops/drop_path.h).
struct DropPath : Layer<DropPath> {
  DropPath(Module& parent, std::string name, double p);
  Tensor forward(const Tensor& x);

  const double p;
};

// LayerDrop (Fan, Grave, Joulin 2020, arXiv 1909.11556): a layer left out with probability p in training, one
// draw for each pass and call; in evaluation every layer is there. A layer that all passes leave out is not
// computed and has no gradient; in a recorded step (TrainerOptions::cuda_graph) it is, and its gradient is 0.
struct LayerDrop : Layer<LayerDrop> {
  LayerDrop(Module& parent, std::string name, double p);
  // layer(x), and x in the passes that leave the layer out.
  Tensor forward(const Tensor& x, const std::function<Tensor(const Tensor&)>& layer);

  const double p;
};

// Word dropout: the vectors of whole tokens, x [B, T, D], are replaced by `other` [D] with probability p,
// each pass its own.
struct WordDropout : Layer<WordDropout> {
  WordDropout(Module& parent, std::string name, double p);
  Tensor forward(const Tensor& x, const Tensor& other);

  const double p;
};

}  // namespace tandem::nn
