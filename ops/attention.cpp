// What attention() and packed_attention() make of the op, and its registration.
#include "ops/attention.h"

#include "autograd/registry.h"
#include "ops/attention_op.h"

namespace tandem {
namespace {

// Packed rows on a device, whose kernels see them padded.
Tensor padded_attention(const Tensor& q, const Tensor& k, const Tensor& v, const PackedRows& queries,
                        const PackedRows& keys, const AttentionOptions& options, const Tensor& ignored,
                        const Noise& noise) {
  const auto heads = [](const Tensor& x, const PackedRows& rows) {
    return pad_packed(x, rows).transpose(1, 2);
  };
  const Tensor y = attention(heads(q, queries), heads(k, keys), heads(v, keys), options,
                             detail::padded_mask(ignored, keys, k.device()), noise);
  return pack_padded(y.transpose(1, 2), queries);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& key_padding_mask, const Noise& noise) {
  return detail::checked_attention({q, k, v}, options, key_padding_mask, noise);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& key_padding_mask) {
  return attention(q, k, v, options, key_padding_mask, detail::noise_of(options));
}

Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const PackedRows& queries,
                        const PackedRows& keys, const AttentionOptions& options,
                        const Tensor& key_padding_mask) {
  check<ValueError>(queries.defined() && keys.defined(), "packed_attention: rows are undefined");
  check<ShapeError>(queries.samples() == keys.samples(),
                    "packed_attention: queries of {} samples beside keys of {}", queries.samples(),
                    keys.samples());
  check<ShapeError>(std::max(queries.positions(), keys.positions()) <= int64_t{1} << 20,
                    "packed_attention: expected at most 2^20 positions, got {} and {}", queries.positions(),
                    keys.positions());
  for (const auto& [x, rows] : {std::pair(&q, &queries), std::pair(&k, &keys), std::pair(&v, &keys)})
    check<ShapeError>(x->dim() == 3 && x->size(0) == rows->rows(),
                      "packed_attention: expected [{}, heads, dim], got {}", rows->rows(), describe(*x));
  detail::check_packed_mask("packed_attention", key_padding_mask, keys);
  const Noise noise = detail::noise_of(options);
  if (q.device() != kCpu) return padded_attention(q, k, v, queries, keys, options, key_padding_mask, noise);
  const auto heads = [](const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  const Tensor mask = key_padding_mask.defined() ? key_padding_mask.unsqueeze(0) : Tensor();
  return detail::checked_attention({heads(q), heads(k), heads(v)}, options, mask, noise, queries, keys)
      .squeeze(0)
      .transpose(0, 1);
}

namespace {

Function with(AttentionOptions options, PassOptions passes = {}) {
  return [options, passes](const Tensors& in) {
    PassContext context(passes);
    return attention(in[0], in[1], in[2], options, in.size() > 3 ? in[3] : Tensor());
  };
}

Tensor ignored(const std::vector<uint8_t>& values, const Shape& shape, Device device) {
  return from_values(values, shape).to(DType::boolean).to(device);
}

void attention_cases(OpCases& c) {
  const auto qkv = [&](int64_t tq, int64_t tk, int64_t d, int64_t dv) {
    return Tensors{c.normal({2, 2, tq, d}), c.normal({2, 2, tk, d}), c.normal({2, 2, tk, dv})};
  };
  const auto masked = [&](Tensors in, const std::vector<uint8_t>& mask) {
    in.push_back(ignored(mask, {2, in[1].size(2)}, c.device()));
    return in;
  };
  c.sample("plain", qkv(3, 4, 3, 2), with({}));
  c.sample("scaled", qkv(2, 3, 2, 3), with({.scale = 1.3}));
  c.sample("causal", qkv(4, 4, 2, 2), with({.causal = true}));
  c.sample("causal, fewer keys", qkv(4, 2, 2, 2), with({.causal = true}));
  c.sample("masked inside and behind", masked(qkv(2, 4, 2, 3), {0, 1, 0, 1, 0, 0, 0, 0}), with({}));
  c.sample("no key for a sample", masked(qkv(2, 2, 2, 2), {1, 1, 0, 0}), with({}));
  c.sample("no key for some queries", masked(qkv(3, 3, 2, 2), {1, 1, 0, 0, 1, 0}), with({.causal = true}));
  c.sample("wider than a vector", {c.normal({1, 1, 2, 1}), c.normal({1, 1, 19, 1}), c.normal({1, 1, 19, 1})},
           with({}));
  c.sample("one query", masked(qkv(1, 4, 2, 3), {0, 1, 0, 0, 0, 0, 0, 1}), with({}));
  c.sample("no queries", qkv(0, 2, 2, 2), with({}));
  c.sample("no keys", qkv(2, 0, 2, 2), with({}));

  const Tensor x = zeros({1, 2, 3, 4});
  c.fails<ShapeError>("rank", "attention: expected [batch, heads, length, dim], got f32[2,3]",
                      {zeros({2, 3}), x, x}, with({}));
  c.fails<ShapeError>("heads", "attention: expected batch 1, heads 2 and at most 2^20 positions",
                      {x, zeros({1, 1, 3, 4}), x}, with({}));
  c.fails<ShapeError>("dim", "attention: dimensions of q and k differ", {x, zeros({1, 2, 3, 5}), x},
                      with({}));
  c.fails<ShapeError>("length", "attention: lengths of k and v differ", {x, x, zeros({1, 2, 2, 4})},
                      with({}));
  c.fails<ShapeError>("mask", "attention: key_padding_mask is bool[3,1], expected [batch, keys] = [1,3]",
                      {x, x, x, zeros({3, 1}, {DType::boolean})}, with({}));
  c.fails<DTypeError>("mask's dtype", "attention: key_padding_mask is f32[1,3], expected bool",
                      {x, x, x, zeros({1, 3})}, with({}));
  c.fails<DTypeError>("dtypes", "attention: q, k and v of one dtype expected", {x, x, x.to(DType::bf16)},
                      with({}));
  c.fails<ConfigError>("scale", "attention: scale is -1", {x, x, x}, with({.scale = -1}));
  c.fails<AutogradError>("no context", "attention: noise outside of a PassContext",
                         [x] { attention(x, x, x, {.dropout = 0.1}); });
}
const RegisterOp attention_op("attention", attention_cases, {.second_order = false});

void attention_dropout_cases(OpCases& c) {
  const Tensor q = c.normal({2, 2, 3, 2}), k = c.normal({2, 2, 4, 2}), v = c.normal({2, 2, 4, 3});
  const AttentionOptions options{.dropout = 0.4};
  c.sample("one pass", {q, k, v}, with(options, {.seed = 5}));
  c.sample("makes 3 passes", {q, k, v}, with(options, {.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("masked, causal", {q, k, v, ignored({0, 1, 0, 0, 0, 0, 0, 1}, {2, 4}, c.device())},
           with({.causal = true, .dropout = 0.4}, {.seed = 5, .count = 2}));
  c.sample("two rows of the batch are a sample", {q, k, v}, with(options, {.seed = 5, .batch = 1}));
  c.sample("inactive", {q, k, v}, with(options, {.count = 2, .rates = {0, 0}}));

  const Tensor one = zeros({1, 1, 2, 2}), three = zeros({3, 1, 2, 2});
  c.fails<ConfigError>("rate", "dropout: expected a rate in [0, 1), got 1", {one, one, one},
                       with({.dropout = 1}));
  c.fails<ShapeError>("batch", "attention: 3 elements are not divisible among the 2 samples",
                      {three, three, three}, with({.dropout = 0.5}, {.batch = 2}));
}
// In sample 0 two queries see three keys, in the next nothing is left, in the last three queries see two keys
// of other positions.
void packed_attention_cases(OpCases& c) {
  const PackedRows queries({{0, 2}, {1, 1}, {1, 4}}, 4), keys({{1, 4}, {0, 1}, {2, 4}}, 4);
  const auto f = [](PackedRows queries, PackedRows keys, AttentionOptions options, PassOptions passes = {}) {
    return [=](const Tensors& in) {
      const PassContext context(passes);
      return packed_attention(in[0], in[1], in[2], queries, keys, options, in.size() > 3 ? in[3] : Tensor());
    };
  };
  const Tensors qkv = {c.normal({5, 2, 3}), c.normal({6, 2, 3}), c.normal({6, 2, 2})};
  const auto masked = [&](const std::vector<uint8_t>& mask) {
    return Tensors{qkv[0], qkv[1], qkv[2], ignored(mask, {std::ssize(mask)}, c.device())};
  };
  const PassOptions two{.seed = 5, .count = 2};
  c.sample("plain", qkv, f(queries, keys, {}));
  c.sample("masked", masked({0, 1, 0, 1, 0, 1}), f(queries, keys, {.scale = 1.3}));
  c.sample("causal, keys after some queries", qkv, f(queries, keys, {.causal = true}));
  c.sample("dropout", qkv, f(queries, keys, {.dropout = 0.4}, two));
  c.sample("dropout, causal, masked", masked({1, 0, 0, 0, 0, 1}),
           f(queries, keys, {.causal = true, .dropout = 0.4}, two));
  c.sample("the samples are one", qkv, f(queries, keys, {.dropout = 0.4}, {.seed = 5, .batch = 1}));
  c.sample("one query each", {c.normal({2, 1, 3}), c.normal({5, 1, 3}), c.normal({5, 1, 2})},
           f(PackedRows({{3, 4}, {0, 1}}, 4), PackedRows({{0, 4}, {1, 2}}, 4), {.causal = true}));
  c.sample("nothing", {c.normal({0, 2, 3}), c.normal({0, 2, 3}), c.normal({0, 2, 2})},
           f(PackedRows({{0, 0}, {2, 2}}, 2), PackedRows({{0, 0}, {2, 2}}, 2), {}));

  const Tensor x = zeros({5, 2, 3});
  c.fails<ShapeError>("rows", "packed_attention: expected [6, heads, dim], got f32[5,2,3]", {x, x, x},
                      f(queries, keys, {}));
  c.fails<ShapeError>("samples", "packed_attention: queries of 3 samples beside keys of 1", {x, x, x},
                      f(queries, PackedRows({{0, 5}}, 5), {}));
  c.fails<ShapeError>("mask", "packed_attention: key_padding_mask is bool[5,1], expected [5]",
                      {x, x, x, zeros({5, 1}, {DType::boolean})}, f(queries, queries, {}));
  c.fails<ValueError>("undefined", "packed_attention: rows are undefined", {x, x, x}, f(queries, {}, {}));
}
const RegisterOp packed_attention_op("packed_attention", packed_attention_cases,
                                     {.second_order = false, .draws_noise = true});

const RegisterOp attention_dropout_op("attention_dropout", attention_dropout_cases,
                                      {.second_order = false, .draws_noise = true});

}  // namespace
}  // namespace tandem
