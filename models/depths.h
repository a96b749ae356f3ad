// How deep the parameters of a model are, for what differs by depth when it is fine-tuned: layer-wise rates
// of learning and gradual unfreezing (Howard, Ruder 2018, arXiv 1801.06146), freezing.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/module.h"

namespace tandem::models {

// A parameter's place in its model.
struct Depth {
  int64_t level = 0;     // 0: an embedding; i + 1: block i, counted over all stacks; blocks + 1: above them
  bool is_head = false;  // of the task's output layer, which no pre-training knows
};
// The places of all parameters.
struct Depths {
  int64_t blocks = 0;     // of the model
  std::vector<Depth> of;  // in the order of named_parameters()
};

// Of a Vit, TextEncoder, LanguageModel or Transformer, whose decoder is above its encoder. ConfigError for
// another module.
Depths depths(const nn::Module& model);

}  // namespace tandem::models
