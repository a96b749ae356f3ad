// Multi-head attention (Vaswani et al. 2017, section 3.2.2).
#pragma once

#include "nn/layers/linear.h"
#include "ops/attention.h"

namespace tandem::nn {

// The options of a MultiheadAttention.
struct AttentionConfig {
  double dropout = 0;      // of the attention probabilities, in [0, 1)
  bool causal = false;     // query t sees keys <= t
  bool bias = true;        // of the four projections
  bool qkv_bias = true;    // of the first three, where there are biases
  int64_t memory_dim = 0;  // size of keys and values before their projections; 0: dim
};

// Keys and values of all heads, [B, heads, S, dim / heads] each.
struct KeyValues {
  Tensor keys, values;
};

// Those of the positions so far, for decoding by steps: written one behind the other into memory of its own,
// which grows by stretches. Not recorded: AutogradError for an append() that would be.
class KeyValueCache {
 public:
  KeyValueCache() = default;
  KeyValueCache(KeyValueCache&&) = default;
  KeyValueCache& operator=(KeyValueCache&&) = default;

  void append(const KeyValues& next);         // one position or more
  int64_t length() const { return length_; }  // positions that it has
  KeyValues all() const;                      // views of what was appended; undefined before
  void select(const Tensor& rows);            // keeps those rows of the batch, i64 [N], in that order
  void copy_rows(const Tensor& from, const Tensor& to);  // i64 [N] each; no row is in both

 private:
  KeyValues room_;  // [B, heads, positions that there is memory for, dim / heads]
  int64_t length_ = 0;
};

// out_proj(heads(q_proj(query), k_proj(memory), v_proj(memory))): query [B, T, dim], memory [B, S,
// memory_dim], key_padding_mask bool [B, S] or undefined, true = this key is ignored; gives [B, T, dim].
// Without a memory it is self-attention. Within a PackedScope all of them are packed: query [rows, dim],
// memory [memory rows, dim] (the scope's memory, unless it is the query), key_padding_mask [memory rows].
// Weights of the projections start Xavier-uniform, their biases at 0.
// ConfigError unless `heads` divides `dim` and the rate is in [0, 1); ShapeError for other shapes. Example:
//
//   nn::Module root;
//   nn::MultiheadAttention attention{root, "attention", 8, 2, {.causal = true}};
//   Tensor sentences = randn({3, 5, 8}, {.seed = 1});
//   Tensor y = attention(sentences);  // [3, 5, 8]; attention(query, memory, padding) of two
struct MultiheadAttention : Layer<MultiheadAttention> {
  MultiheadAttention(Module& parent, std::string name, int64_t dim, int64_t heads,
                     AttentionConfig config = {});
  Tensor forward(const Tensor& x) { return forward(x, x); }
  Tensor forward(const Tensor& query, const Tensor& memory, const Tensor& key_padding_mask = {});

  // What each query sees of each key of a memory, for pictures of it: the attention's probabilities
  // [B, heads, T, S], without dropout. Rows sum to 1; that of a query which sees no key is 0.
  Tensor probabilities(const Tensor& query, const Tensor& memory, const Tensor& key_padding_mask = {});

  // For decoding by steps: the keys and values of a memory, each dense, and the attention of a query
  // [B, T, dim] to all of them.
  KeyValues project(const Tensor& memory);
  Tensor attend(const Tensor& query, const KeyValues& memory, const Tensor& key_padding_mask = {},
                bool causal = false);

  const int64_t heads;
  const AttentionConfig config;  // as it was made
  Linear q_proj, k_proj, v_proj, out_proj;

 private:
  // [B, T, dim] to [B, heads, T, dim / heads], a view; packed [rows, dim] to [rows, heads, dim / heads].
  Tensor into_heads(const Tensor& x) const;
  AttentionOptions attention_options(bool causal) const;
};

// Of those rows of the batch, i64 [N], in that order.
KeyValues select(const KeyValues& all, const Tensor& rows);

}  // namespace tandem::nn
