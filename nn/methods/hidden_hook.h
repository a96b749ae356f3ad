// Where regularizers reach into a model: between its levels, and between its trunk and its head.
#pragma once

#include <functional>

#include "nn/data/dataset.h"
#include "nn/module.h"

namespace tandem::nn {

// Called with what a level gives, and returns what the next one takes: level 0 is the embedding before its
// dropout, level i the i-th layer. Written for one pass, as models are.
using HiddenHook = std::function<Tensor(int64_t level, const Tensor& hidden)>;

// A classifier as the methods of nn/methods/methods.h see it; models/ makes one of each of its encoders.
struct Hookable {
  Module& module;
  int64_t levels;                                                              // the hook's: 0 to levels - 1
  std::function<Tensor(const data::Batch&, const HiddenHook& hook)> features;  // what the head reads: [B, D]
  std::function<Tensor(const Tensor& features)> head;                          // to logits [B, classes]

  Tensor logits(const data::Batch& batch, const HiddenHook& hook = {}) const {
    return head(features(batch, hook));
  }
};

}  // namespace tandem::nn
