#include "models/transformer/token_embedding.h"

#include <cmath>
#include <vector>

#include "ops/ops.h"

namespace tandem::models {

Positions parse_positions(std::string_view name) {
  check<ConfigError>(name == "sinusoidal" || name == "learned",
                     "positions: expected sinusoidal or learned, got '{}'", name);
  return name == "learned" ? Positions::learned : Positions::sinusoidal;
}

namespace {

// PE(t, 2i) = sin(t / 10000^(2i / dim)), PE(t, 2i + 1) = cos(the same).
Tensor sinusoids(int64_t count, int64_t dim) {
  std::vector<double> values(count * dim);
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t d = 0; d < dim; ++d) {
      const double angle = t * std::pow(10000.0, -static_cast<double>(d / 2 * 2) / dim);
      values[t * dim + d] = d % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  }
  return from_values(values, {count, dim})
      .to(nn::InitScope::current().dtype)
      .to(nn::InitScope::current().device);
}

}  // namespace

TokenEmbedding::TokenEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim,
                               int64_t max_positions, int64_t pad_id, Positions kind, double word_dropout,
                               std::vector<int64_t> cutoffs, int64_t factor)
    : Layer(parent, std::move(name)),
      max_positions(max_positions),
      tokens(*this, "tokens", vocab, dim, pad_id, std::move(cutoffs), factor),
      word_drop(*this, "word_drop", word_dropout),
      positions(kind == Positions::sinusoidal
                    ? register_buffer("positions", sinusoids(max_positions, dim), false)
                    : register_parameter("positions", {max_positions, dim}, nn::init::normal(0, 0.02))) {}

Tensor TokenEmbedding::forward(const Tensor& ids, int64_t start) {
  check<ShapeError>(ids.dim() == 2, "TokenEmbedding: expected ids [B, T], got {}", describe(ids));
  const int64_t end = start + ids.size(1);
  check<ShapeError>(end <= max_positions, "TokenEmbedding: {} tokens, the model has {} positions", end,
                    max_positions);
  const double scale = std::sqrt(static_cast<double>(tokens.weight.size(1)));
  const Tensor words = word_drop(tokens(ids) * scale, zeros({1}, {tokens.weight.dtype(), ids.device()}));
  return words + positions.slice(0, start, end);
}

}  // namespace tandem::models
