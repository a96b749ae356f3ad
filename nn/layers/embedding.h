// Embedding: a table of vectors.
#pragma once

#include <optional>

#include "nn/module.h"
#include "ops/embedding.h"

namespace tandem::nn {

// weight[indices]: integers of any shape to [..., dim]. Parameter weight [num, dim], from N(0, 1); row
// padding_idx starts at 0 and gets no gradient. ConfigError for sizes below 1 or a padding_idx outside of the
// table, ValueError for an index outside of it.
struct Embedding : Layer<Embedding> {
  Embedding(Module& parent, std::string name, int64_t num, int64_t dim,
            std::optional<int64_t> padding_idx = {});
  Tensor forward(const Tensor& indices) { return embedding(weight, indices, padding_idx.value_or(-1)); }

  const std::optional<int64_t> padding_idx;
  Parameter weight;
};

}  // namespace tandem::nn
