#include "nn/layers/attention.h"

#include <numbers>

#include "autograd/error.h"
#include "nn/layers/options.h"
#include "ops/attention.h"
#include "ops/indexing.h"
#include "ops/join.h"

namespace tandem::nn {

MultiheadAttention::MultiheadAttention(Module& parent, std::string name, int64_t dim, int64_t heads,
                                       AttentionConfig config)
    : Layer(parent, std::move(name)),
      heads(heads),
      config(config),
      q_proj(*this, "q_proj", dim, dim, config.bias),
      k_proj(*this, "k_proj", config.memory_dim ? config.memory_dim : dim, dim, config.bias),
      v_proj(*this, "v_proj", config.memory_dim ? config.memory_dim : dim, dim, config.bias),
      out_proj(*this, "out_proj", dim, dim, config.bias) {
  check_sizes(*this, "MultiheadAttention", {dim, heads});
  check_rate(*this, "MultiheadAttention", config.dropout);
  const Scope scope(path());
  check<ConfigError>(dim % heads == 0, "MultiheadAttention: {} heads do not divide dim {}", heads, dim);
  // As one matrix [3 dim, dim] would start.
  for (Linear* projection : {&q_proj, &k_proj, &v_proj})
    projection->initialize("weight", init::xavier_uniform(std::numbers::sqrt2 / 2));
  if (config.bias)
    for (Linear* projection : {&q_proj, &k_proj, &v_proj, &out_proj})
      projection->initialize("bias", init::zeros());
}

Tensor MultiheadAttention::forward(const Tensor& query, const Tensor& memory,
                                   const Tensor& key_padding_mask) {
  check<ShapeError>(query.dim() == 3 && memory.dim() == 3,
                    "MultiheadAttention: expected query [B, T, dim] and memory [B, S, dim], got {} and {}",
                    describe(query), describe(memory));
  // One cast for all that read it.
  const Tensor x = to_compute(query), y = &memory == &query ? x : to_compute(memory);
  const Tensor q = split(q_proj(x));
  return join(q, project(y), key_padding_mask, config.causal);
}

KeyValues MultiheadAttention::project(const Tensor& memory) {
  const Tensor y = to_compute(memory);
  return {split(k_proj(y)), split(v_proj(y))};
}

Tensor MultiheadAttention::attend(const Tensor& query, const KeyValues& memory,
                                  const Tensor& key_padding_mask, bool causal) {
  return join(split(q_proj(to_compute(query))), memory, key_padding_mask, causal);
}

Tensor MultiheadAttention::join(const Tensor& q, const KeyValues& memory, const Tensor& key_padding_mask,
                                bool causal) {
  const double dropout = is_training() ? config.dropout : 0;
  const Tensor heads_out = tandem::attention(q, memory.keys, memory.values,
                                             {.causal = causal, .dropout = dropout}, key_padding_mask);
  return out_proj(heads_out.transpose(1, 2).flatten(2));
}

Tensor MultiheadAttention::split(const Tensor& z) const {
  return z.view({z.size(0), z.size(1), heads, z.size(2) / heads}).transpose(1, 2);
}

KeyValues append(const KeyValues& past, const KeyValues& next) {
  if (!past.keys.defined()) return next;
  return {cat({past.keys, next.keys}, 2), cat({past.values, next.values}, 2)};
}

KeyValues select(const KeyValues& all, const Tensor& rows) {
  return {index_select(all.keys, 0, rows), index_select(all.values, 0, rows)};
}

}  // namespace tandem::nn
