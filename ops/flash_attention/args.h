// Arguments of attention by tensor cores, whose scores exist in registers only: flash_forward.cu,
// flash_backward.cu.
#pragma once

#include "ops/attention_kernel.h"

namespace tandem::detail {

inline constexpr int kFlashDim = 128;  // of heads, at most

// Of bf16. Columns lie side by side; rows begin at, and pointers are, multiples of 16 bytes; dimensions are
// multiples of 8 up to kFlashDim. Passes are at most kAttentionPasses.
struct FlashProblem {
  int64_t passes, batch, heads, queries, keys;
  int dim, value_dim;
  float scale;
  bool causal, drops;
  HeadRows<const bool> ignored;
  DeviceNoise noise = {};
  int64_t samples_per_item;
  uint32_t threshold[kAttentionPasses] = {};
  float kept[kAttentionPasses] = {};  // 1 / (1 - p)
  HeadRows<const bf16> q, k, v;
};

struct FlashForward : FlashProblem {
  HeadRows<bf16> out;
  float* log_sums;  // [passes, batch, heads, queries]: of exp(score); +inf where no key is seen
};

struct FlashBackward : FlashProblem {
  HeadRows<const bf16> out, g;
  const float* log_sums;
  float* inner;               // room for <out, g> of each query, shaped as log_sums
  HeadRows<bf16> dq, dk, dv;  // null data: not wanted
};

}  // namespace tandem::detail
