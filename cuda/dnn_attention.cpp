#include "cuda/dnn_attention.h"

#include <algorithm>
#include <initializer_list>

#include "cuda/context.h"
#include "cuda/dnn.h"

namespace tandem::cuda {
namespace {

using detail::AttentionProblem;
using Rows = detail::HeadRows<const bf16>;

Rows readable(const detail::HeadRows<bf16>& x) { return {x.data, x.pass, x.batch, x.head, x.row, x.col}; }
AttentionShape::Strides strides_of(const Rows& x) { return {x.batch, x.head, x.row}; }

bool takes(const AttentionProblem& p, std::initializer_list<Rows> all) {
  if (p.noise || p.ignored.data) return false;
  return std::all_of(all.begin(), all.end(), [](const Rows& x) { return x.data && x.col == 1; });
}

// How many passes are one batch to the library: all where they go on evenly in every operand, or else one.
int64_t passes_at_once(const AttentionProblem& p, std::initializer_list<Rows> all) {
  const bool even =
      std::all_of(all.begin(), all.end(), [&](const Rows& x) { return x.pass == p.batch * x.batch; });
  return even ? p.passes : 1;
}

AttentionShape shape_of(const AttentionProblem& p, int64_t passes) {
  return {.batch = passes * p.batch,
          .heads = p.heads,
          .queries = p.queries,
          .keys = p.keys,
          .dim = p.dim,
          .value_dim = p.value_dim,
          .scale = p.scale,
          .causal = p.causal};
}
int64_t queries_of_pass(const AttentionProblem& p) { return p.batch * p.heads * p.queries; }

// A cotangent that is not wanted, which the library computes all the same: dense memory for it.
class Cotangent {
 public:
  Cotangent(const detail::HeadRows<bf16>& wanted, const AttentionProblem& p, int64_t rows, int64_t columns)
      : rows_(wanted),
        scratch_(wanted.data ? 1 : p.passes * p.batch * p.heads * rows * columns * int64_t{sizeof(bf16)}) {
    if (wanted.data) return;
    const int64_t head = rows * columns, batch = p.heads * head;
    rows_ = {scratch_.as<bf16>(), p.batch * batch, batch, head, columns, 1};
  }
  const detail::HeadRows<bf16>& rows() const { return rows_; }

 private:
  detail::HeadRows<bf16> rows_;
  Scratch scratch_;
};

}  // namespace

bool attention_by_library(const detail::AttentionForward<bf16>& f) {
  const AttentionProblem& p = f.problem;
  const Rows out = readable(f.out);
  if (!takes(p, {f.q, f.k, f.v, out})) return false;
  const int64_t passes = passes_at_once(p, {f.q, f.k, f.v, out});
  AttentionShape shape = shape_of(p, passes);
  shape.q = strides_of(f.q), shape.k = strides_of(f.k), shape.v = strides_of(f.v);
  shape.out = strides_of(out);
  for (int64_t i = 0; i < p.passes; i += passes) {
    if (!dnn_attention_forward(shape, f.q.data + i * f.q.pass, f.k.data + i * f.k.pass,
                               f.v.data + i * f.v.pass, f.out.data + i * f.out.pass,
                               f.sums.shifts + i * queries_of_pass(p)))
      return false;
  }
  return true;
}

bool attention_by_library(const detail::AttentionBackward<bf16>& f) {
  const AttentionProblem& p = f.problem;
  if (!takes(p, {f.q, f.k, f.v, f.g, f.out})) return false;
  const Cotangent dq(f.dq, p, p.queries, p.dim), dk(f.dk, p, p.keys, p.dim), dv(f.dv, p, p.keys, p.value_dim);
  const Rows dqs = readable(dq.rows()), dks = readable(dk.rows()), dvs = readable(dv.rows());
  if (!takes(p, {dqs, dks, dvs})) return false;
  const int64_t passes = passes_at_once(p, {f.q, f.k, f.v, f.g, f.out, dqs, dks, dvs});
  AttentionGradShape shape{shape_of(p, passes), strides_of(f.g), strides_of(dqs), strides_of(dks),
                           strides_of(dvs)};
  shape.q = strides_of(f.q), shape.k = strides_of(f.k), shape.v = strides_of(f.v);
  shape.out = strides_of(f.out);
  for (int64_t i = 0; i < p.passes; i += passes) {
    if (!dnn_attention_backward(shape, f.q.data + i * f.q.pass, f.k.data + i * f.k.pass,
                                f.v.data + i * f.v.pass, f.out.data + i * f.out.pass, f.g.data + i * f.g.pass,
                                f.sums.shifts + i * queries_of_pass(p), dq.rows().data + i * dqs.pass,
                                dk.rows().data + i * dks.pass, dv.rows().data + i * dvs.pass))
      return false;
  }
  return true;
}

}  // namespace tandem::cuda
