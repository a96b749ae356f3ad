// P = softmax(scale q k^T), A = keep * P / (1 - p), out = A v. With g the cotangent of out:
//   dv = A^T g,  dA = g v^T,  dP = keep * dA / (1 - p),  dS = P * (dP - <P, dP>),
//   dq = scale dS k,  dk = scale dS^T q
// P comes again from q, k and the saved maximum and sum of each row of scores, keep from the noise.
#pragma once

#include <cmath>

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/tensor_impl.h"
#include "ops/attention.h"
#include "ops/attention_kernel.h"
#include "ops/comparison.h"
#include "ops/packing.h"
#include "ops/views.h"

namespace tandem::detail {

template <class T> HeadRows<T> head_rows(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {x.device_data<std::remove_const_t<T>>(), x.pass_stride(), s[0], s[1], s[2], s[3]};
}

// q, k and v as the parts of x [B, T, 3 D], whose columns are those of q, k and v, of all heads each: views
// [B, H, T, D / H].
struct Parts {
  Tensor q, k, v;
};
inline Parts parts_of(const Tensor& x, int64_t heads) {
  const Shape& s = x.strides();
  const int64_t dim = x.size(2) / 3, of_head = dim / heads;
  const auto part = [&](int64_t i) {
    return make_view(x, {x.size(0), heads, x.size(1), of_head}, {s[0], of_head * s[2], s[1], s[2]},
                     i * dim * s[2]);
  };
  return {part(0), part(1), part(2)};
}

struct Attention final : Op {
  double scale;
  bool causal;
  Noise noise;                      // no rates: no dropout
  PackedRows query_rows, key_rows;  // defined: of inputs [1, H, rows, D]
  int64_t joint_heads;              // 0: inputs are q, k, v and the mask; or else x of Parts and the mask
  bool keeps_output = false;
  Attention(double scale, bool causal, const Noise& noise, PackedRows query_rows, PackedRows key_rows,
            int64_t joint_heads)
      : scale(scale),
        causal(causal),
        noise(noise),
        query_rows(std::move(query_rows)),
        key_rows(std::move(key_rows)),
        joint_heads(joint_heads) {}
  const char* name() const override { return joint_heads ? "self_attention" : "attention"; }
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
    for (const Tensor& each : in) save(each);
    const Parts parts = joint_heads ? parts_of(in[0], joint_heads) : Parts{in[0], in[1], in[2]};
    const Tensor &q = parts.q, &k = parts.k, &v = parts.v;
    const Tensor& mask = in.back();
    if (noise.active()) {
      check<ShapeError>(passes() == 1 || passes() == noise.passes(),
                        "{}: inputs of {} passes in a context of {} passes", name(), passes(),
                        noise.passes());
      set_passes(noise.passes());
    }
    const AttentionProblem p = problem(q, k, v, mask);
    const Tensor out = heads_inside(q, q.size(2), p.value_dim);
    dispatch_floating(name(), q.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      const auto per_query = [&] { return output({q.size(0), p.heads, q.size(2)}, dtype_of<C>, q.device()); };
      const Tensor shifts = save(per_query()), totals = save(per_query());
      const ScoreSums<C> sums{shifts.template device_data<C>(), totals.template device_data<C>()};
      const auto rows = head_rows<const T>;
      const AttentionForward<T> args{p,    rows(q),       rows(k),    rows(v), head_rows<T>(out),
                                     sums, &keeps_output, recording()};
      if (!run_on_device(q, args)) attention_on_cpu(args);
    });
    return keeps_output ? save_output(out) : out;
  }

  Tensors vjp(const Tensor& g) override {
    const size_t n = joint_heads ? 1 : 3;  // and the mask
    const Parts parts = joint_heads ? parts_of(saved(0), joint_heads) : Parts{saved(0), saved(1), saved(2)};
    const Tensor &q = parts.q, &k = parts.k, &v = parts.v;
    const Tensor shifts = saved(n + 1), totals = saved(n + 2), out = keeps_output ? saved(n + 3) : Tensor();
    const AttentionProblem p = problem(q, k, v, saved(n));
    const Tensor dx = joint_heads ? output(saved(0).shape(), q) : Tensor();
    const auto own = [&](size_t i, const Tensor& x) { return needs(i) ? heads_inside(x) : Tensor(); };
    const Parts d = joint_heads ? parts_of(dx, joint_heads) : Parts{own(0, q), own(1, k), own(2, v)};
    dispatch_floating(name(), q.dtype(), [&]<class T>() {
      const auto rows = head_rows<const T>;
      const auto to = head_rows<T>;
      using C = compute_t<T>;
      const ScoreSums<const C> sums{shifts.device_data<C>(), totals.device_data<C>()};
      const AttentionBackward<T> args{p,         rows(q), rows(k), rows(v), rows(g),
                                      rows(out), sums,    to(d.q), to(d.k), to(d.v)};
      if (!run_on_device(q, args)) attention_on_cpu(args);
    });
    return joint_heads ? Tensors{dx} : Tensors{d.q, d.k, d.v};
  }
};

// `packed`: rows of all samples, whose positions are checked elsewhere.
inline void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
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

// Of inputs {q, k, v} [B, H, T, D], or [1, H, rows, D] with rows; or {x} [B, T, 3 D] of so many heads.
inline Tensor checked_attention(Tensors in, const AttentionOptions& options, const Tensor& key_padding_mask,
                                const Noise& noise, const PackedRows& queries = {},
                                const PackedRows& keys = {}, int64_t joint_heads = 0) {
  const auto [q, k, v] = joint_heads ? parts_of(in[0], joint_heads) : Parts{in[0], in[1], in[2]};
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
  in.push_back(key_padding_mask);
  return apply<Attention>(in, options.scale > 0 ? options.scale : 1 / std::sqrt(dim), options.causal, noise,
                          queries, keys, joint_heads);
}

inline Noise noise_of(const AttentionOptions& options) {
  return options.dropout == 0 ? Noise{}
                              : PassContext::require("attention").noise(Purpose::dropout, options.dropout);
}

inline void check_packed_mask(const char* op, const Tensor& mask, const PackedRows& keys) {
  check<ShapeError>(!mask.defined() || mask.shape() == Shape{keys.rows()},
                    "{}: key_padding_mask is {}, expected [{}]", op,
                    mask.defined() ? std::string(describe(mask)) : "", keys.rows());
}

// Which keys are ignored where rows are padded.
inline Tensor padded_mask(const Tensor& ignored, const PackedRows& rows, Device device) {
  const Tensor seen =
      ignored.defined() ? logical_not(ignored) : full({rows.rows()}, 1, {DType::boolean, device});
  return logical_not(pad_packed(seen, rows));
}

}  // namespace tandem::detail
