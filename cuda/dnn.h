// Ops by cuDNN, on stream(). Each function returns false, and has done nothing, where the library has nothing
// that gives the same bits in every run: the caller's own kernel follows. Pointers are dense unless said.
// Plans are made once per problem, type and alignment. DeviceError naming the op, the call and the sizes for
// whatever else goes wrong.
//
// What it does not do, apart from what the library itself declines: norms of f64 or of memory that is not
// aligned to 16 bytes (its kernels fail there, and take the device with them), attention of other types than
// bf16 or with a head dimension that 8 does not divide, or with a mask, or with dropout (its random numbers
// cannot be ours). Pools are our own kernels': they wait for memory, and need no plan.
//
// For tests, TANDEM_CUDNN in the environment, read at every call: `never` gives the library nothing, `always`
// also the norms that are too small to pay.
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

// f32 and bf16, aligned to 16 bytes; of maps 16 bytes of channels at a time. Compiling a kernel takes the
// library about 0.3 s for every number of rows, which batches of text, each of another length, would pay
// again and again: norms are given to it where they are large. Weights and statistics are f32.
bool dnn_norm_forward(const NormSize& size, DType dtype, double eps, const void* x, const void* weight,
                      const void* bias, void* y, void* mean, void* rstd);
bool dnn_norm_backward(const NormSize& size, DType dtype, const void* x, const void* dy, const void* weight,
                       const void* mean, const void* rstd, void* dx, void* dweight, void* dbias);

// bf16, head dimensions of multiples of 8 up to 128; pointers and strides of whole 16 bytes; 2^24 scores or
// more, since every shape is compiled for, as the norms are. log_sums, the logarithms of the
// softmaxes' sums, are [batch, heads, queries].
bool dnn_attention_forward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                           void* out, float* log_sums);
bool dnn_attention_backward(const AttentionGradShape& shape, const void* q, const void* k, const void* v,
                            const void* out, const void* dout, const float* log_sums, void* dq, void* dk,
                            void* dv);

}  // namespace tandem::cuda
