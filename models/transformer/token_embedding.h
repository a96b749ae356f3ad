// Token embedding with positions, the first layer of a Transformer.
#pragma once

#include <string_view>

#include "models/transformer/adaptive.h"

namespace tandem::models {

// How a Transformer knows a token's position.
enum class Positions {
  sinusoidal,  // sin and cos of geometric wavelengths (Vaswani et al. 2017, section 3.5); not learned
  learned,     // one vector for each position
};
Positions parse_positions(std::string_view name);  // ConfigError for an unknown one

// The options of a stack's layers that its model's configuration has.
template <class Options, class Config> Options layer_options(const Config& c) {
  return {.dropout = c.dropout,
          .attention_dropout = c.attention_dropout,
          .activation_dropout = c.activation_dropout,
          .activation = c.activation,
          .norm_first = c.norm_first};
}

// sqrt(dim) tokens(ids) + positions[0..T): ids i64 [B, T] to [B, T, dim].
struct TokenEmbedding : nn::Layer<TokenEmbedding> {
  TokenEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim, int64_t max_positions,
                 int64_t pad_id, Positions kind, double word_dropout = 0, std::vector<int64_t> cutoffs = {},
                 int64_t factor = 4);
  // ShapeError unless ids are [B, T] with start + T <= max_positions; `start` is the first one's position.
  Tensor forward(const Tensor& ids, int64_t start = 0);

  const int64_t max_positions;  // more are a ShapeError
  AdaptiveEmbedding tokens;     // a plain one without cutoffs
  nn::WordDropout word_drop;    // of a dropped word only the position is left
  Tensor positions;             // [max_positions, dim]
};

}  // namespace tandem::models
