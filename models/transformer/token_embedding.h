// Token embedding with positions, the first layer of a Transformer.
#pragma once

#include <optional>
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
          .norm_first = c.norm_first,
          .norm_eps = c.norm_eps};
}

// The options of a TokenEmbedding.
struct TokenEmbeddingOptions {
  int64_t max_positions = 256;                  // of the longest text
  int64_t pad_id = 0;                           // of padding; -1: there is none
  Positions positions = Positions::sinusoidal;  // how a token's place is known
  double word_dropout = 0;                      // rate of words that are left out
  std::vector<int64_t> cutoffs = {};            // of an adaptive embedding, as its factor is
  int64_t factor = 4;                           // likewise
  bool scale = true;                            // vectors are multiplied by sqrt(dim)
  int64_t position_offset =
      0;                   // rows of learned positions before that of the first token, which nothing reads
  bool norm = false;       // a LayerNorm at the end
  double norm_eps = 1e-5;  // its eps
};
// norm(sqrt(dim) tokens(ids) + positions[0..T)): ids i64 [B, T] to [B, T, dim]; packed ones (PackedScope),
// [rows], to [rows, dim].
struct TokenEmbedding : nn::Layer<TokenEmbedding> {
  TokenEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim, TokenEmbeddingOptions options);
  // ShapeError unless ids are [B, T] with start + T <= max_positions; `start` is the first one's position.
  Tensor forward(const Tensor& ids, int64_t start = 0);

  const TokenEmbeddingOptions options;  // as it was made
  AdaptiveEmbedding tokens;             // a plain one without cutoffs
  nn::WordDropout word_drop;            // of a dropped word only the position is left
  Tensor positions;                     // [position_offset + max_positions, dim]
  std::optional<nn::LayerNorm> norm;
};

}  // namespace tandem::models
