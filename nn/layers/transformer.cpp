#include "nn/layers/transformer.h"

#include <functional>
#include <utility>
#include <vector>

#include "autograd/error.h"
#include "autograd/pass_context.h"
#include "autograd/scope.h"
#include "ops/arithmetic.h"
#include "ops/feed_forward.h"

namespace tandem::nn {

FeedForward::FeedForward(Module& parent, std::string name, int64_t dim, int64_t hidden,
                         FeedForwardOptions options)
    : Layer(parent, std::move(name)),
      activation(options.activation),
      fc1(*this, "fc1", dim, hidden),
      drop(*this, "drop", options.dropout),
      fc2(*this, "fc2", hidden, dim) {}

Tensor FeedForward::forward(const Tensor& x) {
  if (drop.acts() && x.device() == kCpu) return fc2(drop(fc1(x, activation)));
  Noise noise;
  if (drop.acts()) {
    const Scope scope(drop.path());
    noise = PassContext::require("dropout").noise(Purpose::dropout, drop.p);
  }
  return feed_forward(to_compute(x), fc1.weight, fc1.bias, fc2.weight, fc2.bias, activation, noise);
}

namespace {

// One of a layer's residual branches.
struct Branch {
  LayerNorm& norm;
  std::function<Tensor(const Tensor&)> compute;
  Dropout& drop;
  std::function<Tensor(const Tensor&)> after = {};  // what else becomes of it before it is added; or none
};

// x + branch(norm(x)) for each of them; otherwise norm(x + branch(x)). A sum and the norm that follows it are
// one step.
Tensor run_branches(bool norm_first, Tensor x, const std::vector<Branch>& branches) {
  const auto dtype = norm_first ? std::optional(compute_dtype(x.dtype())) : std::nullopt;
  Tensor normed = norm_first ? branches[0].norm(x, dtype) : x;
  for (size_t i = 0; i < branches.size(); ++i) {
    const auto& [norm, compute, drop, after] = branches[i];
    const Tensor z = compute(std::exchange(normed, {}));
    const bool last = i + 1 == branches.size();
    LayerNorm* const next = !norm_first ? &norm : last ? nullptr : &branches[i + 1].norm;
    if (after) {
      x = x + after(drop(z));
      if (next) normed = (*next)(x, dtype);
    } else if (next) {
      const NormedResidual both = drop(z, x, *next, dtype);
      x = both.sum, normed = both.norm;
    } else {
      x = drop(z, x);
    }
    if (!norm_first) x = normed;
  }
  return x;
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(Module& parent, std::string name, int64_t dim, int64_t heads,
                                                 int64_t hidden, TransformerEncoderLayerOptions options)
    : Layer(parent, std::move(name)),
      norm_first(options.norm_first),
      norm1(*this, "norm1", dim, {.eps = options.norm_eps}),
      attn(*this, "attn", dim, heads,
           {.dropout = options.attention_dropout, .causal = options.causal, .qkv_bias = options.qkv_bias}),
      drop1(*this, "drop1", options.dropout),
      path1(*this, "path1", options.drop_path),
      norm2(*this, "norm2", dim, {.eps = options.norm_eps}),
      mlp(*this, "mlp", dim, hidden, {options.activation, options.activation_dropout}),
      drop2(*this, "drop2", options.dropout),
      path2(*this, "path2", options.drop_path) {
  if (options.layer_scale == 0) return;
  scale1.emplace(*this, "scale1", dim, options.layer_scale);
  scale2.emplace(*this, "scale2", dim, options.layer_scale);
}

template <class Attend> Tensor TransformerEncoderLayer::run(const Tensor& x, Attend attend) {
  const auto end = [](std::optional<LayerScale>& scale,
                      DropPath& path) -> std::function<Tensor(const Tensor&)> {
    if (!scale && !path.acts()) return {};
    return [&scale = scale, &path = path](const Tensor& z) { return path(scale ? (*scale)(z) : z); };
  };
  return run_branches(norm_first, x,
                      {{norm1, attend, drop1, end(scale1, path1)},
                       {norm2, [&](const Tensor& z) { return mlp(z); }, drop2, end(scale2, path2)}});
}

Tensor TransformerEncoderLayer::forward(const Tensor& x, const Tensor& key_padding_mask) {
  return run(x, [&](const Tensor& y) { return attn(y, y, key_padding_mask); });
}

Tensor TransformerEncoderLayer::attention(const Tensor& x, const Tensor& key_padding_mask) {
  const Tensor y = norm_first ? norm1(x) : x;
  return attn.probabilities(y, y, key_padding_mask);
}

Tensor TransformerEncoderLayer::forward(const Tensor& x, const Tensor& all, const Tensor& key_padding_mask) {
  const Tensor memory = norm_first ? norm1(all, compute_dtype(all.dtype())) : all;
  return run(x, [&](const Tensor& y) { return attn(y, memory, key_padding_mask); });
}

Tensor TransformerEncoderLayer::step(const Tensor& x, KeyValueCache& past) {
  const bool several = x.dim() == 3 && x.size(1) > 1;
  check<ShapeError>(!several || past.length() == 0, "step: expected one position after the first {}, got {}",
                    past.length(), describe(x));
  return run(x, [&](const Tensor& y) {
    past.append(attn.project(y));
    return attn.attend(y, past.all(), {}, several);
  });
}

TransformerDecoderLayer::TransformerDecoderLayer(Module& parent, std::string name, int64_t dim, int64_t heads,
                                                 int64_t hidden, TransformerDecoderLayerOptions options)
    : Layer(parent, std::move(name)),
      norm_first(options.norm_first),
      norm1(*this, "norm1", dim, {.eps = options.norm_eps}),
      self_attn(*this, "self_attn", dim, heads, {.dropout = options.attention_dropout, .causal = true}),
      drop1(*this, "drop1", options.dropout),
      norm2(*this, "norm2", dim, {.eps = options.norm_eps}),
      cross_attn(*this, "cross_attn", dim, heads, {.dropout = options.attention_dropout}),
      drop2(*this, "drop2", options.dropout),
      norm3(*this, "norm3", dim, {.eps = options.norm_eps}),
      mlp(*this, "mlp", dim, hidden, {options.activation, options.activation_dropout}),
      drop3(*this, "drop3", options.dropout) {}

template <class Self, class Cross>
Tensor TransformerDecoderLayer::run(const Tensor& x, Self self, Cross cross) {
  return run_branches(
      norm_first, x,
      {{norm1, self, drop1}, {norm2, cross, drop2}, {norm3, [&](const Tensor& z) { return mlp(z); }, drop3}});
}

Tensor TransformerDecoderLayer::forward(const Tensor& x, const Tensor& memory,
                                        const Tensor& memory_key_padding_mask) {
  return run(
      x, [&](const Tensor& z) { return self_attn(z); },
      [&](const Tensor& z) { return cross_attn(z, memory, memory_key_padding_mask); });
}

Tensor TransformerDecoderLayer::step(const Tensor& x, KeyValueCache& past, const KeyValues& memory,
                                     const Tensor& memory_key_padding_mask) {
  return run(
      x,
      [&](const Tensor& z) {
        past.append(self_attn.project(z));
        return self_attn.attend(z, past.all());
      },
      [&](const Tensor& z) { return cross_attn.attend(z, memory, memory_key_padding_mask); });
}

}  // namespace tandem::nn
