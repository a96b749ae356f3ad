// P = softmax(scale q k^T), A = keep * P / (1 - p), out = A v. With g the cotangent of out:
//   dv = A^T g,  dA = g v^T,  dP = keep * dA / (1 - p),  dS = P * (dP - <P, dP>),
//   dq = scale dS k,  dk = scale dS^T q
// P comes again from q, k and the saved maximum and sum of each row of scores, keep from the noise.
#include "ops/attention.h"

#include <cmath>

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/attention_kernel.h"
#include "ops/comparison.h"
#include "ops/packing.h"
#include "ops/views.h"

namespace tandem {
namespace {

using detail::AttentionProblem;
using detail::HeadRows;

template <class T> HeadRows<T> head_rows(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {x.device_data<std::remove_const_t<T>>(), x.pass_stride(), s[0], s[1], s[2], s[3]};
}

struct Attention final : Op {
  double scale;
  bool causal;
  Noise noise;                      // no rates: no dropout
  PackedRows query_rows, key_rows;  // defined: of inputs [1, H, rows, D]
  bool keeps_output = false;
  Attention(double scale, bool causal, const Noise& noise, PackedRows query_rows, PackedRows key_rows)
      : scale(scale),
        causal(causal),
        noise(noise),
        query_rows(std::move(query_rows)),
        key_rows(std::move(key_rows)) {}
  const char* name() const override { return "attention"; }
  bool first_order_only() const override { return true; }

  // [B, H, rows, cols], stored with the heads inside of the rows.
  Tensor heads_inside(const Tensor& like, int64_t rows, int64_t cols) const {
    const int64_t b = like.size(0), h = like.size(1);
    return transpose(output({b, rows, h, cols}, like), 1, 2);
  }
  Tensor heads_inside(const Tensor& like) const { return heads_inside(like, like.size(2), like.size(3)); }

  AttentionProblem problem(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) const {
    AttentionProblem p{.passes = passes(),
                       .batch = q.size(0),
                       .heads = q.size(1),
                       .queries = q.size(2),
                       .keys = k.size(2),
                       .dim = q.size(3),
                       .value_dim = v.size(3),
                       .scale = scale,
                       .causal = causal,
                       .ignored = {},
                       .noise = noise.active() ? &noise : nullptr,
                       .samples_per_item = 1,
                       .query_rows = query_rows,
                       .key_rows = key_rows};
    if (query_rows.defined())
      p.batch = query_rows.samples(), p.queries = query_rows.longest(), p.keys = key_rows.longest();
    if (mask.defined()) {
      const int64_t of_batch = query_rows.defined() ? 0 : mask.strides()[0];
      p.ignored = {mask.device_data<bool>(), mask.pass_stride(), of_batch, 0, 0, mask.strides()[1]};
    }
    if (p.noise) p.samples_per_item = std::max<int64_t>(1, noise.per_sample(name(), p.batch, p.batch));
    return p;
  }

  Tensor forward(const Tensors& in) override {
    const Tensor &q = save(in[0]), &k = save(in[1]), &v = save(in[2]), &mask = save(in[3]);
    if (noise.active()) {
      check<ShapeError>(passes() == 1 || passes() == noise.passes(),
                        "attention: inputs of {} passes in a context of {} passes", passes(), noise.passes());
      set_passes(noise.passes());
    }
    const AttentionProblem p = problem(q, k, v, mask);
    const Tensor out = heads_inside(q, q.size(2), p.value_dim);
    dispatch_floating(name(), q.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      const auto per_query = [&] { return output({q.size(0), p.heads, q.size(2)}, dtype_of<C>, q.device()); };
      const Tensor shifts = save(per_query()), totals = save(per_query());
      const detail::ScoreSums<C> sums{shifts.template device_data<C>(), totals.template device_data<C>()};
      const auto rows = head_rows<const T>;
      const detail::AttentionForward<T> args{p,    rows(q),       rows(k),    rows(v), head_rows<T>(out),
                                             sums, &keeps_output, recording()};
      if (!run_on_device(q, args)) detail::attention_on_cpu(args);
    });
    return keeps_output ? save_output(out) : out;
  }

  Tensors vjp(const Tensor& g) override {
    const Tensor q = saved(0), k = saved(1), v = saved(2), shifts = saved(4);
    const Tensor totals = saved(5), out = keeps_output ? saved(6) : Tensor();
    const AttentionProblem p = problem(q, k, v, saved(3));
    const Tensor dq = needs(0) ? heads_inside(q) : Tensor(), dk = needs(1) ? heads_inside(k) : Tensor(),
                 dv = needs(2) ? heads_inside(v) : Tensor();
    dispatch_floating(name(), q.dtype(), [&]<class T>() {
      const auto rows = head_rows<const T>;
      const auto to = head_rows<T>;
      using C = compute_t<T>;
      const detail::ScoreSums<const C> sums{shifts.device_data<C>(), totals.device_data<C>()};
      const detail::AttentionBackward<T> args{p,         rows(q), rows(k), rows(v), rows(g),
                                              rows(out), sums,    to(dq),  to(dk),  to(dv)};
      if (!run_on_device(q, args)) detail::attention_on_cpu(args);
    });
    return {dq, dk, dv, Tensor()};
  }
};

// `packed`: rows of all samples, whose positions are checked elsewhere.
void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                  bool packed = false) {
  for (const Tensor& x : {q, k, v}) {
    check<ShapeError>(x.dim() == 4, "attention: expected [batch, heads, length, dim], got {}", describe(x));
    check<DTypeError>(x.dtype() == q.dtype(), "attention: q, k and v of one dtype expected, got {} and {}",
                      describe(q), describe(x));
    check<ShapeError>(
        x.size(0) == q.size(0) && x.size(1) == q.size(1) && (packed || x.size(2) <= int64_t{1} << 20),
        "attention: expected batch {}, heads {} and at most 2^20 positions, got {}", q.size(0), q.size(1),
        describe(x));
  }
  check<ShapeError>(k.size(3) == q.size(3), "attention: dimensions of q and k differ: {} vs {}", describe(q),
                    describe(k));
  check<ShapeError>(v.size(2) == k.size(2), "attention: lengths of k and v differ: {} vs {}", describe(k),
                    describe(v));
  if (!mask.defined()) return;
  check<DTypeError>(mask.dtype() == DType::boolean, "attention: key_padding_mask is {}, expected bool",
                    describe(mask));
  check<ShapeError>(mask.shape() == Shape({q.size(0), k.size(2)}),
                    "attention: key_padding_mask is {}, expected [batch, keys] = [{},{}]", describe(mask),
                    q.size(0), k.size(2));
}

// Of inputs [B, H, T, D], or [1, H, rows, D] with rows.
Tensor checked_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                         const Tensor& key_padding_mask, const Noise& noise, const PackedRows& queries = {},
                         const PackedRows& keys = {}) {
  check_inputs(q, k, v, key_padding_mask);
  check<ConfigError>(options.scale >= 0 && std::isfinite(options.scale),
                     "attention: scale is {}, expected a finite number > 0, or 0 for 1/sqrt(dim)",
                     options.scale);
  const double dim = static_cast<double>(std::max<int64_t>(1, q.size(3)));
  if (noise.active()) {
    const int64_t batch = queries.defined() ? queries.samples() : q.size(0);
    const int64_t heads = q.size(1) * noise.per_sample("attention", batch, batch);
    check<ShapeError>(heads < int64_t{1} << 24, "attention: {} heads of one sample, expected less than 2^24",
                      heads);
  }
  return apply<Attention>({q, k, v, key_padding_mask}, options.scale > 0 ? options.scale : 1 / std::sqrt(dim),
                          options.causal, noise, queries, keys);
}

Noise noise_of(const AttentionOptions& options) {
  return options.dropout == 0 ? Noise{}
                              : PassContext::require("attention").noise(Purpose::dropout, options.dropout);
}

// Packed rows on a device, whose kernels see them padded.
Tensor padded_attention(const Tensor& q, const Tensor& k, const Tensor& v, const PackedRows& queries,
                        const PackedRows& keys, const AttentionOptions& options, const Tensor& ignored,
                        const Noise& noise) {
  const auto heads = [](const Tensor& x, const PackedRows& rows) {
    return pad_packed(x, rows).transpose(1, 2);
  };
  const Tensor seen =
      ignored.defined() ? logical_not(ignored) : full({keys.rows()}, 1, {DType::boolean, k.device()});
  const Tensor y = attention(heads(q, queries), heads(k, keys), heads(v, keys), options,
                             logical_not(pad_packed(seen, keys)), noise);
  return pack_padded(y.transpose(1, 2), queries);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& key_padding_mask, const Noise& noise) {
  return checked_attention(q, k, v, options, key_padding_mask, noise);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& key_padding_mask) {
  return attention(q, k, v, options, key_padding_mask, noise_of(options));
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
  check<ShapeError>(!key_padding_mask.defined() || key_padding_mask.shape() == Shape{keys.rows()},
                    "packed_attention: key_padding_mask is {}, expected [{}]",
                    key_padding_mask.defined() ? std::string(describe(key_padding_mask)) : "", keys.rows());
  const Noise noise = noise_of(options);
  if (q.device() != kCpu) return padded_attention(q, k, v, queries, keys, options, key_padding_mask, noise);
  const auto heads = [](const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  const Tensor mask = key_padding_mask.defined() ? key_padding_mask.unsqueeze(0) : Tensor();
  return checked_attention(heads(q), heads(k), heads(v), options, mask, noise, queries, keys)
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
