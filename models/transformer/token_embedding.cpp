#include "models/transformer/token_embedding.h"

#include <cmath>
#include <vector>

#include "models/transformer/padding.h"
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
                               TokenEmbeddingOptions options_)
    : Layer(parent, std::move(name)),
      options(std::move(options_)),
      tokens(*this, "tokens", vocab, dim, options.pad_id, options.cutoffs, options.factor),
      word_drop(*this, "word_drop", options.word_dropout),
      positions(options.positions == Positions::sinusoidal
                    ? register_buffer("positions", sinusoids(options.max_positions, dim), false)
                    : register_parameter("positions", {options.position_offset + options.max_positions, dim},
                                         nn::init::normal(0, 0.02))) {
  if (options.norm) norm.emplace(*this, "norm", dim, nn::LayerNormOptions{.eps = options.norm_eps});
}

Tensor TokenEmbedding::forward(const Tensor& ids, int64_t start) {
  const PackedRows& rows = PackedScope::rows();
  check<ShapeError>(ids.dim() == (rows.defined() ? 1 : 2), "TokenEmbedding: expected ids {}, got {}",
                    rows.defined() ? "[rows], packed" : "[B, T]", describe(ids));
  const int64_t end = start + (rows.defined() ? rows.positions() : ids.size(1));
  check<ShapeError>(end <= options.max_positions, "TokenEmbedding: {} tokens, the model has {} positions",
                    end, options.max_positions);
  const int64_t row = options.positions == Positions::learned ? options.position_offset : 0;
  Tensor x = tokens(ids);
  if (options.scale) x = x * std::sqrt(static_cast<double>(tokens.weight.size(1)));
  x = word_drop(x, zeros({1}, {tokens.weight.dtype(), ids.device()}));
  const Tensor used = positions.slice(0, row + start, row + end);
  x = x + (rows.defined() ? embedding(used, positions_of(rows)) : used);
  return norm ? (*norm)(x) : x;
}

}  // namespace tandem::models
