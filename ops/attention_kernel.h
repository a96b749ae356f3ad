// Arguments of attention on a device. AttentionForward and AttentionBackward are made of products
// (cuda/blas.h) and of AttentionRows, the kernel for the scores between two of them.
#pragma once

#include "ops/attention_cpu.h"
#include "ops/loops/device_noise.h"

namespace tandem::detail {

inline constexpr int kAttentionPasses = 8;  // of which the rows of one launch may be

// The scores of some heads of some items (samples of a pass), [items, heads, queries, keys] in rows `pitch`
// apart. With s the scores, not scaled, P = softmax(scale s) over the keys that a query sees, and
// A = keep P / (1 - p):
//   forward (backward null):   A, and the sums
//   backward:                  A again, and dS = scale P (dP - <P, dP>), dP = keep backward / (1 - p)
// The results may take the place of what they are made of, row by row.
template <class T> struct AttentionRows {
  using C = compute_t<T>;
  int64_t first_item, items, first_head, heads, queries, keys;
  int64_t batch, all_heads;
  const C *scores, *backward = nullptr;
  int64_t pitch;
  T *dropped = nullptr, *grads = nullptr;  // A and dS
  int64_t out_pitch;                       // of both
  ScoreSums<C> sums = {};                  // of all items and heads; null sums: 1
  HeadRows<const bool> ignored;
  bool causal;
  C scale;
  bool drops;
  DeviceNoise noise = {};
  int64_t samples_per_item, first_pass;
  uint32_t threshold[kAttentionPasses] = {};  // from first_pass on
  C kept[kAttentionPasses] = {};              // 1 / (1 - p)
};

// out = A values of the same heads, as a product has left it, in which an A of 0 does not hide a NaN or an
// infinity of a key that the query does not see: elements that are not finite are summed again, without
// those.
template <class T> struct AttentionMend {
  const AttentionRows<T>& rows;
  const T* factors;  // A or dS, in rows `out_pitch` apart
  HeadRows<const T> values;
  HeadRows<T> out;
  int64_t columns;
};

}  // namespace tandem::detail
