// The feed-forward network, the encoder layer and the decoder layer of a Transformer (Vaswani et al. 2017).
#pragma once

#include <optional>

#include "nn/layers/attention.h"
#include "nn/layers/dropout.h"
#include "nn/layers/layer_scale.h"
#include "nn/layers/norm.h"

namespace tandem::nn {

// The options of a FeedForward.
struct FeedForwardOptions {
  Activation activation = Activation::gelu;  // of the hidden layer
  double dropout = 0;                        // after the activation
};
// fc2(drop(activation(fc1(x)))): [..., dim] to [..., hidden] to [..., dim]. Without dropout between the two
// it is one op (ops/feed_forward.h).
struct FeedForward : Layer<FeedForward> {
  FeedForward(Module& parent, std::string name, int64_t dim, int64_t hidden, FeedForwardOptions options = {});
  Tensor forward(const Tensor& x);

  const Activation activation;
  Linear fc1;
  Dropout drop;
  Linear fc2;
};

// The options of a TransformerEncoderLayer.
struct TransformerEncoderLayerOptions {
  double dropout = 0;                        // of each branch's output
  double attention_dropout = 0;              // of the attention probabilities
  double activation_dropout = 0;             // between the layers of the feed-forward network
  double drop_path = 0;                      // stochastic depth of each branch
  Activation activation = Activation::gelu;  // of the feed-forward network
  bool norm_first = true;  // x + branch(norm(x)); otherwise norm(x + branch(x)), as in the original
  double norm_eps = 1e-5;  // eps of every LayerNorm
  bool causal = false;     // no position sees a later one
  bool qkv_bias = true;    // of the attention's first three projections
  double layer_scale = 0;  // where the LayerScale at the end of each branch starts; 0: there is none
};
// Self-attention and feed-forward network, each a residual branch: x [B, T, dim] to [B, T, dim];
// key_padding_mask bool [B, T] or undefined, true = ignored. Where the output is read at some positions
// alone, x is the input there and `all` that of all positions: x [B, first positions, dim], or packed
// (PackedScope) the rows of any, with `all` as the scope's memory.
struct TransformerEncoderLayer : Layer<TransformerEncoderLayer> {
  TransformerEncoderLayer(Module& parent, std::string name, int64_t dim, int64_t heads, int64_t hidden,
                          TransformerEncoderLayerOptions options = {});
  Tensor forward(const Tensor& x, const Tensor& key_padding_mask = {});
  Tensor forward(const Tensor& x, const Tensor& all, const Tensor& key_padding_mask);
  // The probabilities of its attention to x, [B, heads, T, T], as of MultiheadAttention.
  Tensor attention(const Tensor& x, const Tensor& key_padding_mask = {});
  // A causal layer's output [B, 1, dim] at the position after those in `past`, to which it adds its own keys
  // and values; or that of the first T positions. Not recorded.
  Tensor step(const Tensor& x, KeyValueCache& past);

  // The parts, in the order in which they are run where norm_first.
  const bool norm_first;
  LayerNorm norm1;
  MultiheadAttention attn;
  Dropout drop1;
  std::optional<LayerScale> scale1;
  DropPath path1;
  LayerNorm norm2;
  FeedForward mlp;
  Dropout drop2;
  std::optional<LayerScale> scale2;
  DropPath path2;

 private:
  template <class Attend> Tensor run(const Tensor& x, Attend attend);
};

// The options of a TransformerDecoderLayer.
struct TransformerDecoderLayerOptions {
  double dropout = 0;                        // of each branch's output
  double attention_dropout = 0;              // of the attention probabilities, in self- and cross-attention
  double activation_dropout = 0;             // between the layers of the feed-forward network
  Activation activation = Activation::relu;  // of the feed-forward network
  bool norm_first = false;  // x + branch(norm(x)); otherwise norm(x + branch(x)), as in the original
  double norm_eps = 1e-5;   // eps of every LayerNorm
};
// Causal self-attention, attention to the encoder's output and feed-forward network, each a residual branch:
// x [B, T, dim] and memory [B, S, dim] to [B, T, dim]; memory_key_padding_mask bool [B, S] or undefined,
// true = ignored. Padding at the end of x needs no mask: no earlier position sees it.
struct TransformerDecoderLayer : Layer<TransformerDecoderLayer> {
  TransformerDecoderLayer(Module& parent, std::string name, int64_t dim, int64_t heads, int64_t hidden,
                          TransformerDecoderLayerOptions options = {});
  Tensor forward(const Tensor& x, const Tensor& memory, const Tensor& memory_key_padding_mask = {});
  // The output [B, 1, dim] at the position after those in `past`, to which it adds its own keys and values;
  // `memory` is what cross_attn.project() made of the encoder's output. Not recorded.
  Tensor step(const Tensor& x, KeyValueCache& past, const KeyValues& memory,
              const Tensor& memory_key_padding_mask = {});

  // The parts, in the order in which they are run where norm_first.
  const bool norm_first;
  LayerNorm norm1;
  MultiheadAttention self_attn;
  Dropout drop1;
  LayerNorm norm2;
  MultiheadAttention cross_attn;
  Dropout drop2;
  LayerNorm norm3;
  FeedForward mlp;
  Dropout drop3;

 private:
  template <class Self, class Cross> Tensor run(const Tensor& x, Self self, Cross cross);
};

}  // namespace tandem::nn
