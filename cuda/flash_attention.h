// Attention by our own kernels of tensor cores (ops/flash_attention): of bf16, on devices of compute
// capability 8.0 or more, head dimensions of multiples of 8 up to 128, rows of whole 16 bytes. False, and
// nothing done, for whatever else.
#pragma once

#include "ops/attention_kernel.h"

namespace tandem::cuda {

// The sums that it fills are those of attention_by_library (cuda/dnn_attention.h): either's gradient can be
// had of the other's forward.
bool flash_attention(const detail::AttentionForward<bf16>& args);
bool flash_attention(const detail::AttentionBackward<bf16>& args);  // needs the forward's output

}  // namespace tandem::cuda
