// Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1) as one op: probabilities are neither
// stored nor written to memory, in the forward and in the backward, which computes them again.
#pragma once

#include "autograd/pass_context.h"
#include "autograd/tensor.h"

namespace tandem {

// The options of attention().
struct AttentionOptions {
  double scale = 0;     // of the products; 0: 1 / sqrt(D)
  bool causal = false;  // query t sees keys <= t
  double dropout = 0;   // rate in [0, 1) at which probabilities are dropped
};

// dropout(softmax(scale * q k^T)) v.
//
// q [B, H, Tq, D], k [B, H, Tk, D], v [B, H, Tk, Dv], of one floating dtype; strided views are read in place.
// key_padding_mask: bool [B, Tk], true = this key is IGNORED (torch's convention), or undefined. A query for
// which every key is hidden gets zeros, and gives no gradient (torch: NaN).
// The result is [B, H, Tq, Dv], stored as [B, Tq, H, Dv]: transpose(1, 2) and joining the heads are free.
//
// With dropout it draws from the current PassContext at the current module: sample = index in the batch,
// position = (head, query, key) as (head * 2^20 + query) * 2^20 + key, so that padding changes nothing. Like
// dropout() it makes one result per pass of the context where q, k and v are shared.
// Softmax is computed in f32 for bf16. First derivatives only.
// ShapeError: sizes that do not fit, more than 2^20 queries or keys, 2^24 heads; DTypeError: mixed dtypes, a
// mask that is not bool; AutogradError: dropout outside of a PassContext; ConfigError: rate or scale.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {},
                 const Tensor& key_padding_mask = {});

// The same with noise that was taken from a context before, in place of options.dropout.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 const Tensor& key_padding_mask, const Noise& noise);

// The same of packed rows (autograd/packed_rows.h): each query sees the keys of its own sample, by their
// positions. q [query rows, H, D], k [key rows, H, D], v [key rows, H, Dv] to [query rows, H, Dv], dense;
// key_padding_mask: bool [key rows]. Noise is that of the padded tensors. Errors as above; ValueError for
// undefined rows, ShapeError for those of another batch.
Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const PackedRows& queries,
                        const PackedRows& keys, const AttentionOptions& options = {},
                        const Tensor& key_padding_mask = {});

}  // namespace tandem
