// Ops by cuDNN, on stream(). Each function returns false, and has done nothing, where the library has nothing
// that gives the same bits in every run, or no memory for its workspace: the caller's own kernel follows.
// Pointers are dense unless said. Plans are made once per problem and type. DeviceError naming the op, the
// call and the sizes for whatever else goes wrong.
//
// What it does not do, apart from what the library itself declines: attention of other types than bf16 or
// with a head dimension that 8 does not divide, or with a mask, or with dropout (its random numbers cannot be
// ours). Norms and pools are our own kernels': they wait for memory, as fast as the library's (cuda/H200.md),
// and need no plan.
//
// For tests, TANDEM_CUDNN in the environment, read at every call: `never` gives the library nothing, `always`
// also the attention that is too small to pay.
#pragma once

#include "autograd/dtype.h"
#include "cuda/dnn_shapes.h"
#include "ops/conv2d_kernel.h"

namespace tandem::cuda {

// bias: of the type of x, or null. Everything is of `dtype`.
bool dnn_conv_forward(const detail::ConvShape& shape, DType dtype, const void* x, const void* weight,
                      const void* bias, void* y);
bool dnn_conv_data(const detail::ConvShape& shape, DType dtype, const void* dy, const void* weight, void* dx);
// `exact`: every input is a bf16 in fact, so that TF32 loses nothing.
bool dnn_conv_weights(const detail::ConvShape& shape, DType dtype, const void* x, const void* dy,
                      void* dweight, bool exact = false);

// bf16, head dimensions of multiples of 8 up to 128; pointers and strides of whole 16 bytes, no stride of 0;
// 2^24 scores or more: the library compiles a kernel for every shape, in 0.3 s, which batches of text, each
// of another length, would pay again and again. log_sums, the logarithms of the softmaxes' sums, are [batch,
// heads, queries]. A causal query may get 0 times what the keys after it hold: NaN there reaches it, as it
// does not in our own attention.
bool dnn_attention_forward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                           void* out, float* log_sums);
bool dnn_attention_backward(const AttentionGradShape& shape, const void* q, const void* k, const void* v,
                            const void* out, const void* dout, const float* log_sums, void* dq, void* dk,
                            void* dv);

}  // namespace tandem::cuda
