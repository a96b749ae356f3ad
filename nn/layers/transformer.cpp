#include "nn/layers/transformer.h"

#include "ops/arithmetic.h"

namespace tandem::nn {

FeedForward::FeedForward(Module& parent, std::string name, int64_t dim, int64_t hidden,
                         FeedForwardOptions options)
    : Layer(parent, std::move(name)),
      activation(options.activation),
      fc1(*this, "fc1", dim, hidden),
      drop(*this, "drop", options.dropout),
      fc2(*this, "fc2", hidden, dim) {}

TransformerEncoderLayer::TransformerEncoderLayer(Module& parent, std::string name, int64_t dim, int64_t heads,
                                                 int64_t hidden, TransformerEncoderLayerOptions options)
    : Layer(parent, std::move(name)),
      norm_first(options.norm_first),
      norm1(*this, "norm1", dim, {.eps = options.norm_eps}),
      attn(*this, "attn", dim, heads, {.dropout = options.attention_dropout, .causal = options.causal}),
      drop1(*this, "drop1", options.dropout),
      path1(*this, "path1", options.drop_path),
      norm2(*this, "norm2", dim, {.eps = options.norm_eps}),
      mlp(*this, "mlp", dim, hidden, {options.activation, options.activation_dropout}),
      drop2(*this, "drop2", options.dropout),
      path2(*this, "path2", options.drop_path) {}

Tensor TransformerEncoderLayer::forward(const Tensor& x, const Tensor& key_padding_mask) {
  const auto attend = [&](const Tensor& y) { return path1(drop1(attn(y, y, key_padding_mask))); };
  const auto feed = [&](const Tensor& y) { return path2(drop2(mlp(y))); };
  if (norm_first) {
    const Tensor y = x + attend(norm1(x));
    return y + feed(norm2(y));
  }
  const Tensor y = norm1(x + attend(x));
  return norm2(y + feed(y));
}

}  // namespace tandem::nn
