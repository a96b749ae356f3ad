// The operation graphs of cuDNN that are used. Each function fills an empty graph; its comment lists the
// tensors in memory in their order. Types: `dtype` is that of x, y and their cotangents; norm weights,
// statistics and softmax statistics are f32 (but see conv_weights).
#pragma once

#include <array>

#include "autograd/dtype.h"
#include "cuda/dnn_graph.h"
#include "ops/detail/conv_kernel.h"

namespace tandem::cuda {

cudnnDataType_t dnn_type(DType dtype);  // DTypeError for a type that is not floating
// Same bits in every run, and f32 is f32.
inline DnnPolicy dnn_policy(DType dtype) { return {.tensor_cores = dtype != DType::f32}; }

using detail::ConvShape;
void conv_forward(DnnGraph& graph, const ConvShape& shape, DType dtype, bool bias);  // x, weight, [bias,] y
void conv_data(DnnGraph& graph, const ConvShape& shape, DType dtype);                // dy, weight, dx
void conv_weights(DnnGraph& graph, const ConvShape& shape, DType dtype);             // x, dy, dweight

// Rows [rows, columns], each normalised on its own. With statistics: those for a backward.
struct RowsSize {
  int64_t rows, columns;
};
void layer_norm_forward(DnnGraph& graph, RowsSize size, DType dtype, double eps,
                        bool statistics);  // x, weight, bias, [mean, rstd,] y
void layer_norm_backward(DnnGraph& graph, RowsSize size,
                         DType dtype);  // x, dy, weight, mean, rstd, dweight, dbias, dx
void rms_norm_forward(DnnGraph& graph, RowsSize size, DType dtype, double eps,
                      bool statistics);                               // x, weight, [rstd,] y
void rms_norm_backward(DnnGraph& graph, RowsSize size, DType dtype);  // x, dy, weight, rstd, dweight, dx

// Maps [n, channels, h, w], normalised by channel.
struct MapsSize {
  int64_t n, channels, h, w;
};
bool batch_norm_supported(MapsSize size, DType dtype);
void batch_norm_forward(DnnGraph& graph, MapsSize size, DType dtype,
                        double eps);  // x, weight, bias, mean, rstd, y
void batch_norm_backward(DnnGraph& graph, MapsSize size,
                         DType dtype);  // x, dy, weight, mean, rstd, dweight, dbias, dx

// Windows of height x width over maps; pairs are {height, width}.
struct PoolShape {
  MapsSize maps;
  std::array<int64_t, 2> window, stride, padding;
  int64_t out(int axis) const {
    return ((axis ? maps.w : maps.h) + 2 * padding[axis] - window[axis]) / stride[axis] + 1;
  }
};
enum class Pool { max, average, average_inside };  // average_inside: zeros of the padding do not count
void pool_forward(DnnGraph& graph, const PoolShape& shape, DType dtype, Pool pool);   // x, y
void pool_backward(DnnGraph& graph, const PoolShape& shape, DType dtype, Pool pool);  // dy, dx; not max

// softmax(scale q k^T) v, of bf16. Strides of [batch, heads, rows, columns] in elements, columns dense.
struct AttentionShape {
  int64_t batch, heads, queries, keys, dim, value_dim;
  using Strides = std::array<int64_t, 3>;  // of batch, heads, rows
  Strides q, k, v, out;
  double scale;
  bool causal;  // query t sees keys <= t
};
void attention_forward(DnnGraph& graph, const AttentionShape& shape);  // q, k, v, out, log_sums
// The cotangents have the strides of what they are of. q, k, v, out, dout, log_sums, dq, dk, dv; then, for
// the graph's own use, row_sums [batch, heads, queries].
void attention_backward(DnnGraph& graph, const AttentionShape& shape);

}  // namespace tandem::cuda
