// Token embedding with positions: what every Transformer begins with.
#pragma once

#include <string_view>

#include "nn/layers.h"

namespace tandem::models {

enum class Positions {
  sinusoidal,  // sin and cos of geometric wavelengths (Vaswani et al. 2017, section 3.5); not learned
  learned,     // one vector for each position
};
Positions parse_positions(std::string_view name);  // ConfigError for an unknown one
std::string_view name_of(Positions positions);

// sqrt(dim) weight[ids] + positions[0..T): ids i64 [B, T] to [B, T, dim]. The weight starts at
// N(0, 1 / sqrt(dim)), so that it can be an output layer's too; the row of pad_id is 0 and stays so.
struct TokenEmbedding : nn::Layer<TokenEmbedding> {
  TokenEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim, int64_t max_positions,
                 int64_t pad_id, Positions kind);
  // ShapeError unless ids are [B, T] with T <= max_positions.
  Tensor forward(const Tensor& ids);

  const int64_t max_positions;
  nn::Embedding tokens;
  Tensor positions;  // [max_positions, dim]
};

}  // namespace tandem::models
