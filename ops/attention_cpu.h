// Scaled dot-product attention on raw memory, one (pass, sample, head) at a time in cache: scores, mask,
// softmax, dropout and both products, without storing probabilities. The backward recomputes them.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"
#include "autograd/pass_context.h"

namespace tandem::detail {

// [passes, batch, heads, rows, columns] with any strides, in elements; a stride of 0 shares.
template <class T> struct HeadRows {
  T* data = nullptr;
  int64_t pass = 0, batch = 0, head = 0, row = 0, col = 1;
};

struct AttentionProblem {
  int64_t passes, batch, heads, queries, keys;
  int64_t dim, value_dim;  // of q and k; of v and the output
  double scale;
  bool causal;                   // query t sees keys <= t
  HeadRows<const bool> ignored;  // [passes, batch, 1, 1, keys], stride col; null data: none
  const Noise* noise;            // of the dropout; null: none
  int64_t samples_per_item;      // consecutive rows of `batch` that are one sample of the noise
  // Where padding was left out (on the CPU alone): [passes, heads, rows, columns], the rows of `batch`
  // samples one behind the other; `queries` and `keys` are those of the longest.
  PackedRows query_rows = {}, key_rows = {};
};

// Of each query's scores, [passes, batch, heads, queries] (packed: [passes, heads, rows]), dense: with them P
// = exp(s - shift) / sum comes again as exact as it was, which it would not from their logarithm max +
// log(sum), for large scores.
template <class C> struct ScoreSums {
  C *shifts = nullptr, *sums = nullptr;  // the largest score, and the sum of exp(s - shift); no key: +inf, 1
};

// out = dropout(softmax(scale q k^T)) v. A query without any visible key gets zeros. What keys and values
// hold where a query does not see them does not reach it, NaN included (cuDNN's causal attention:
// cuda/dnn.h).
template <class T> struct AttentionForward {
  const AttentionProblem& problem;
  HeadRows<const T> q, k, v;
  HeadRows<T> out;
  ScoreSums<compute_t<T>> sums;
  bool* keeps_output;  // false at first; set where the backward will want `out`: then the shifts are max +
                       // log(sum), and the sums were not filled
  bool recorded;       // a backward may follow, which wants the sums of scores made as it makes them
};
// The cotangents of q, k, v (null data: not needed) for the cotangent g of the output. They have all passes.
template <class T> struct AttentionBackward {
  const AttentionProblem& problem;
  HeadRows<const T> q, k, v, g;
  HeadRows<const T> out;  // of the forward; null data: it was not kept, and the CPU has no use for it
  ScoreSums<const compute_t<T>> sums;
  HeadRows<T> dq, dk, dv;
};
template <class T> void attention_on_cpu(const AttentionForward<T>& args);
template <class T> void attention_on_cpu(const AttentionBackward<T>& args);

}  // namespace tandem::detail
