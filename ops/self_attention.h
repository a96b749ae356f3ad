// attention() of a sequence to itself, of one tensor.
#pragma once

#include "ops/attention.h"

namespace tandem {

// Queries, keys and values stand side by side, as joined_linear() gives them, and so do their gradients: qkv
// [B, T, 3 D], or packed [rows, 3 D] with rows, gives [B, T, D] or [rows, D], the heads one behind the other.
// Errors as of attention() and packed_attention().
Tensor self_attention(const Tensor& qkv, int64_t heads, const AttentionOptions& options = {},
                      const Tensor& key_padding_mask = {}, const PackedRows& rows = {});

}  // namespace tandem
