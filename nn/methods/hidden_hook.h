// Hooks for regularizers: between the levels of a model, and between its trunk and its head.
#pragma once

#include <functional>

#include "nn/data/dataset.h"
#include "nn/module.h"

namespace tandem::nn {

// Called with the output of each level; its result goes on to the next one. Level 0 is the embedding before
// its dropout, level i the i-th layer. Written for one pass, as models are.
using HiddenHook = std::function<Tensor(int64_t level, const Tensor& hidden)>;

// A classifier as nn/methods/methods.h sees it: hookable(model) of the encoders in models/.
struct Hookable {
  Module& module;                                                              // the model
  int64_t levels;                                                              // the hook's: 0 to levels - 1
  std::function<Tensor(const data::Batch&, const HiddenHook& hook)> features;  // what the head reads: [B, D]
  std::function<Tensor(const Tensor& features)> head;                          // to logits [B, classes]

  // The whole model: [B, classes].
  Tensor logits(const data::Batch& batch, const HiddenHook& hook = {}) const {
    return head(features(batch, hook));
  }
};

}  // namespace tandem::nn
