// Multi-head attention (Vaswani et al. 2017, section 3.2.2).
#pragma once

#include "nn/layers/linear.h"

namespace tandem::nn {

struct AttentionConfig {
  double dropout = 0;      // of the attention probabilities, in [0, 1)
  bool causal = false;     // query t sees keys <= t
  bool bias = true;        // of the four projections
  int64_t memory_dim = 0;  // size of keys and values before their projections; 0: dim
};

// Keys and values of all heads, [B, heads, S, dim / heads] each: what attention keeps of a memory, and what a
// decoder keeps of the positions it has seen. Both undefined: of nothing.
struct KeyValues {
  Tensor keys, values;
};
// `past` with the positions of `next` behind its own.
KeyValues append(const KeyValues& past, const KeyValues& next);
KeyValues select(const KeyValues& all, const Tensor& rows);  // of those rows of the batch, i64 [N]

// out_proj(heads(q_proj(query), k_proj(memory), v_proj(memory))): query [B, T, dim], memory [B, S,
// memory_dim], key_padding_mask bool [B, S] or undefined, true = this key is ignored; gives [B, T, dim].
// Without a memory it is self-attention. Weights of the projections start Xavier-uniform, their biases at 0.
// ConfigError unless `heads` divides `dim` and the rate is in [0, 1).
struct MultiheadAttention : Layer<MultiheadAttention> {
  MultiheadAttention(Module& parent, std::string name, int64_t dim, int64_t heads,
                     AttentionConfig config = {});
  Tensor forward(const Tensor& x) { return forward(x, x); }
  Tensor forward(const Tensor& query, const Tensor& memory, const Tensor& key_padding_mask = {});

  // The parts of forward(), for decoding by steps. attend() takes a query [B, T, dim].
  KeyValues project(const Tensor& memory);
  Tensor attend(const Tensor& query, const KeyValues& memory, const Tensor& key_padding_mask, bool causal);

  const int64_t heads;
  const AttentionConfig config;
  Linear q_proj, k_proj, v_proj, out_proj;

 private:
  Tensor join(const Tensor& q, const KeyValues& memory, const Tensor& key_padding_mask, bool causal);
  Tensor split(const Tensor& z) const;  // [B, T, dim] to [B, heads, T, dim / heads], a view
};

}  // namespace tandem::nn
