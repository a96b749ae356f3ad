#include "nn/layers/attention.h"

#include <algorithm>
#include <numbers>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/makers.h"
#include "nn/layers/options.h"
#include "ops/indexing.h"
#include "ops/joined_linear.h"
#include "ops/self_attention.h"

namespace tandem::nn {
namespace {

// [B, heads, T, dim / heads] to [B, T, dim]; packed [rows, heads, dim / heads] to [rows, dim].
Tensor from_heads(const Tensor& x) { return x.dim() == 3 ? x.flatten(1) : x.transpose(1, 2).flatten(2); }

// One product in place of three; what does not fit, those say.
bool fit_together(const Tensor& x, std::initializer_list<const Linear*> all) {
  const Shape shape = (*all.begin())->weight.shape();
  return std::all_of(all.begin(), all.end(), [&](const Linear* each) {
    return each->weight.shape() == shape && x.size(-1) == shape[1];
  });
}
Tensor project_jointly(const Tensor& x, std::initializer_list<const Linear*> all) {
  Tensors weights, biases;
  for (const Linear* each : all) {
    weights.push_back(each->weight);
    if (each->bias.defined()) biases.push_back(each->bias);
  }
  return joined_linear(x, weights, biases);
}

}  // namespace

MultiheadAttention::MultiheadAttention(Module& parent, std::string name, int64_t dim, int64_t heads,
                                       AttentionConfig config)
    : Layer(parent, std::move(name)),
      heads(heads),
      config(config),
      q_proj(*this, "q_proj", dim, dim, config.bias && config.qkv_bias),
      k_proj(*this, "k_proj", config.memory_dim ? config.memory_dim : dim, dim,
             config.bias && config.qkv_bias),
      v_proj(*this, "v_proj", config.memory_dim ? config.memory_dim : dim, dim,
             config.bias && config.qkv_bias),
      out_proj(*this, "out_proj", dim, dim, config.bias) {
  check_sizes(*this, "MultiheadAttention", {dim, heads});
  check_rate(*this, "MultiheadAttention", config.dropout);
  const Scope scope(path());
  check<ConfigError>(dim % heads == 0, "MultiheadAttention: {} heads do not divide dim {}", heads, dim);
  // As one matrix [3 dim, dim] would start.
  for (Linear* projection : {&q_proj, &k_proj, &v_proj})
    projection->initialize("weight", init::xavier_uniform(std::numbers::sqrt2 / 2));
  for (Linear* projection : {&q_proj, &k_proj, &v_proj, &out_proj})
    if (projection->bias.defined()) projection->initialize("bias", init::zeros());
}

Tensor MultiheadAttention::forward(const Tensor& query, const Tensor& memory,
                                   const Tensor& key_padding_mask) {
  const PackedRows& rows = PackedScope::rows();
  const int dims = rows.defined() ? 2 : 3;
  check<ShapeError>(query.dim() == dims && memory.dim() == dims,
                    "MultiheadAttention: expected query {0} and memory {0}, got {1} and {2}",
                    rows.defined() ? "[rows, dim], packed," : "[B, T, dim]", describe(query),
                    describe(memory));
  // One cast for all that read it.
  const bool self = &memory == &query;
  const Tensor x = to_compute(query), y = self ? x : to_compute(memory);
  const AttentionOptions options = attention_options(config.causal);
  if (self && x.device() != kCpu && fit_together(x, {&q_proj, &k_proj, &v_proj})) {
    const Tensor qkv = project_jointly(x, {&q_proj, &k_proj, &v_proj});
    return out_proj(self_attention(qkv, heads, options, key_padding_mask, rows));
  }
  const Tensor q = into_heads(q_proj(x)), k = into_heads(k_proj(y)), v = into_heads(v_proj(y));
  const Tensor z = rows.defined() ? packed_attention(q, k, v, rows, self ? rows : PackedScope::memory(),
                                                     options, key_padding_mask)
                                  : attention(q, k, v, options, key_padding_mask);
  return out_proj(from_heads(z));
}

// The op stores no probabilities; of values that are the identity it makes them.
Tensor MultiheadAttention::probabilities(const Tensor& query, const Tensor& memory,
                                         const Tensor& key_padding_mask) {
  const Tensor q = into_heads(q_proj(query)), k = into_heads(k_proj(memory));
  const int64_t keys = memory.size(1);
  const Tensor identity = eye(keys, {q.dtype(), q.device()}).expand({query.size(0), heads, keys, keys});
  return attention(q, k, identity, {.causal = config.causal}, key_padding_mask);
}

KeyValues MultiheadAttention::project(const Tensor& memory) {
  const Tensor y = to_compute(memory);
  return {into_heads(k_proj(y)).contiguous(), into_heads(v_proj(y)).contiguous()};
}

Tensor MultiheadAttention::attend(const Tensor& query, const KeyValues& memory,
                                  const Tensor& key_padding_mask, bool causal) {
  const Tensor q = into_heads(q_proj(to_compute(query)));
  const Tensor z = attention(q, memory.keys, memory.values, attention_options(causal), key_padding_mask);
  return out_proj(from_heads(z));
}

Tensor MultiheadAttention::into_heads(const Tensor& x) const {
  if (x.dim() == 2) return x.view({x.size(0), heads, x.size(1) / heads});
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

AttentionOptions MultiheadAttention::attention_options(bool causal) const {
  return {.causal = causal, .dropout = is_training() ? config.dropout : 0};
}

void KeyValueCache::append(const KeyValues& next) {
  check<AutogradError>(!grad_enabled(), "KeyValueCache: not recorded, expected a NoGradGuard");
  constexpr int64_t kStretch = 32;
  const int64_t end = length_ + next.keys.size(2);
  const KeyValues past = all();
  const auto add = [&](Tensor& room, const Tensor& before, const Tensor& x) {
    if (!room.defined() || end > room.size(2)) {
      Shape shape = x.shape();
      shape[2] = (end + kStretch - 1) / kStretch * kStretch;
      room = zeros(shape, {x.dtype(), x.device()});  // select() reads all of it
      if (before.defined()) room.slice(2, 0, length_).copy_(before);
    }
    room.slice(2, length_, end).copy_(x);
  };
  add(room_.keys, past.keys, next.keys), add(room_.values, past.values, next.values);
  length_ = end;
}

KeyValues KeyValueCache::all() const {
  if (length_ == 0) return {};
  return {room_.keys.slice(2, 0, length_), room_.values.slice(2, 0, length_)};
}

void KeyValueCache::select(const Tensor& rows) {
  if (length_ > 0) room_ = nn::select(room_, rows);
}

void KeyValueCache::copy_rows(const Tensor& from, const Tensor& to) {
  if (length_ == 0) return;
  for (const Tensor& x : {all().keys, all().values}) x.index_put_({to}, index_select(x, 0, from));
}

KeyValues select(const KeyValues& all, const Tensor& rows) {
  return {index_select(all.keys, 0, rows), index_select(all.values, 0, rows)};
}

}  // namespace tandem::nn
