// The operation graphs of cuDNN that are used. Each function fills an empty graph; its comment lists the
// tensors in memory in their order, which are of `dtype`; softmax statistics are f32.
#pragma once

#include "autograd/dtype.h"
#include "cuda/dnn_graph.h"
#include "cuda/dnn_shapes.h"
#include "ops/conv2d_kernel.h"

namespace tandem::cuda {

cudnnDataType_t dnn_type(DType dtype);  // DTypeError for a type that is not floating
// Same bits in every run, and f32 is f32.
inline DnnPolicy dnn_policy(DType dtype) { return {.tensor_cores = dtype != DType::f32}; }

using detail::ConvShape;
void conv_forward(DnnGraph& graph, const ConvShape& shape, DType dtype, bool bias);  // x, weight, [bias,] y
void conv_data(DnnGraph& graph, const ConvShape& shape, DType dtype);                // dy, weight, dx
void conv_weights(DnnGraph& graph, const ConvShape& shape, DType dtype);             // x, dy, dweight

// Of bf16.
void attention_forward(DnnGraph& graph, const AttentionShape& shape);  // q, k, v, out, log_sums
// q, k, v, out, dout, log_sums, dq, dk, dv; then, for the graph's own use, row_sums [batch, heads, queries].
void attention_backward(DnnGraph& graph, const AttentionGradShape& shape);

}  // namespace tandem::cuda
