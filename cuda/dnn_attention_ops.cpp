// Attention as single operations. The library's one operation for it knows no causal mask, but it finds these
// by their pattern and runs them fused:
//   forward   s = scale q k^T, p = exp(s - max s) / sum, out = p v, log_sums = max s + log sum
//   backward  p = exp(s - log_sums), dv = p^T dout, dp = dout v^T, ds = scale p (dp - row_sums) where
//             row_sums = sum(dout out), dq = ds k, dk = ds^T q
#include <limits>

#include "cuda/dnn_formula.h"
#include "cuda/dnn_ops.h"

namespace tandem::cuda {
namespace {

using Ref = DnnGraph::Ref;
constexpr auto kFloat = CUDNN_DATA_FLOAT;
constexpr auto kNarrow = CUDNN_DATA_BFLOAT16;

// The steps of the formula; results that are given no tensor stay inside of the kernel.
struct Steps {
  DnnGraph& graph;
  const AttentionShape& shape;
  Dims scores = {shape.batch, shape.heads, shape.queries, shape.keys};
  Dims per_query = {shape.batch, shape.heads, shape.queries, 1};

  Ref memory(int64_t rows, int64_t columns, const AttentionShape::Strides& s) {
    return graph.tensor(kNarrow, {shape.batch, shape.heads, rows, columns}, {s[0], s[1], s[2], 1});
  }
  Ref transposed(int64_t rows, int64_t columns, const AttentionShape::Strides& s) {
    return graph.tensor(kNarrow, {shape.batch, shape.heads, columns, rows}, {s[0], s[1], 1, s[2]});
  }
  Ref pointwise(cudnnPointwiseMode_t mode, Ref x, Ref b, const Dims& dims, cudnnDataType_t type = kFloat) {
    const Ref y = graph.intermediate(type, dims);
    add_pointwise(graph, {.mode = mode, .x = x, .b = b, .y = y});
    return y;
  }
  Ref matmul(Ref a, Ref b, const Dims& dims) {
    const Ref y = graph.intermediate(kFloat, dims);
    add_matmul(graph, a, b, y);
    return y;
  }
  Ref reduce(cudnnReduceTensorOp_t op, Ref x) {
    const Ref y = graph.intermediate(kFloat, per_query);
    add_reduction(graph, op, x, y);
    return y;
  }
  // scale q k^T; -inf where the mask hides the key.
  Ref masked_scores(Ref q, Ref k_transposed, Ref scale) {
    const Ref s = pointwise(CUDNN_POINTWISE_MUL, matmul(q, k_transposed, scores), scale, scores);
    return shape.causal ? causal(s) : s;
  }
  Ref causal(Ref s) {
    const Ref row = index(s, 2), column = index(s, 3);
    const Ref seen = graph.intermediate(CUDNN_DATA_BOOLEAN, scores);
    add_pointwise(
        graph,
        {.mode = CUDNN_POINTWISE_CMP_GE, .x = row, .b = column, .y = seen, .compute = CUDNN_DATA_BOOLEAN});
    const Ref y = graph.intermediate(kFloat, scores);
    const Ref hidden = graph.constant(-std::numeric_limits<float>::infinity(), 4);
    add_pointwise(graph,
                  {.mode = CUDNN_POINTWISE_BINARY_SELECT, .x = s, .b = hidden, .select = seen, .y = y});
    return y;
  }
  Ref index(Ref s, int64_t axis) {
    const Ref y = graph.intermediate(CUDNN_DATA_INT32, scores);
    add_pointwise(graph, {.mode = CUDNN_POINTWISE_GEN_INDEX, .x = s, .y = y, .axis = axis});
    return y;
  }
  // [keys, queries] of a matrix of scores, rounded for a product.
  Ref flip(Ref s) {
    const int64_t q = shape.queries, k = shape.keys, h = shape.heads;
    const Ref y = graph.intermediate(kNarrow, {shape.batch, h, k, q}, {h * q * k, q * k, 1, k});
    add_reshape(graph, s, y);
    return y;
  }
};

}  // namespace

void attention_forward(DnnGraph& graph, const AttentionShape& s) {
  Steps f{graph, s};
  const Ref q = f.memory(s.queries, s.dim, s.q), k = f.transposed(s.keys, s.dim, s.k);
  const Ref v = f.memory(s.keys, s.value_dim, s.v), out = f.memory(s.queries, s.value_dim, s.out);
  const Ref log_sums = graph.tensor(kFloat, f.per_query);
  const Ref scores = f.masked_scores(q, k, graph.constant(static_cast<float>(s.scale), 4));
  const Ref max = f.reduce(CUDNN_REDUCE_TENSOR_MAX, scores);
  const Ref exp = f.pointwise(CUDNN_POINTWISE_EXP, f.pointwise(CUDNN_POINTWISE_SUB, scores, max, f.scores),
                              nullptr, f.scores);
  const Ref sum = f.reduce(CUDNN_REDUCE_TENSOR_ADD, exp);
  const Ref log = f.pointwise(CUDNN_POINTWISE_LOG, sum, nullptr, f.per_query);
  add_pointwise(graph, {.mode = CUDNN_POINTWISE_ADD, .x = max, .b = log, .y = log_sums});
  add_matmul(graph, f.pointwise(CUDNN_POINTWISE_DIV, exp, sum, f.scores, kNarrow), v, out);
}

void attention_backward(DnnGraph& graph, const AttentionGradShape& s) {
  Steps f{graph, s};
  const Ref q = f.memory(s.queries, s.dim, s.q), k = f.transposed(s.keys, s.dim, s.k);
  const Ref v = f.transposed(s.keys, s.value_dim, s.v), out = f.memory(s.queries, s.value_dim, s.out);
  const Ref dout = f.memory(s.queries, s.value_dim, s.dout), log_sums = graph.tensor(kFloat, f.per_query);
  const Ref dq = f.memory(s.queries, s.dim, s.dq), dk = f.memory(s.keys, s.dim, s.dk);
  const Ref dv = f.memory(s.keys, s.value_dim, s.dv), row_sums = graph.tensor(kFloat, f.per_query);
  const Ref scale = graph.constant(static_cast<float>(s.scale), 4);

  const Dims rows{s.batch, s.heads, s.queries, s.value_dim};
  const Ref products = graph.intermediate(
      kFloat, rows, {s.heads * s.queries * s.value_dim, s.queries * s.value_dim, s.value_dim, 1});
  add_pointwise(graph, {.mode = CUDNN_POINTWISE_MUL, .x = dout, .b = out, .y = products});
  // The pattern has a factor here, for dropout.
  add_pointwise(graph, {.mode = CUDNN_POINTWISE_MUL,
                        .x = f.reduce(CUDNN_REDUCE_TENSOR_ADD, products),
                        .b = graph.constant(1, 4),
                        .y = row_sums});

  const Ref shifted = f.pointwise(CUDNN_POINTWISE_SUB,
                                  f.pointwise(CUDNN_POINTWISE_MUL, f.matmul(q, k, f.scores), scale, f.scores),
                                  log_sums, f.scores);
  const Ref p = f.pointwise(CUDNN_POINTWISE_EXP, s.causal ? f.causal(shifted) : shifted, nullptr, f.scores);
  add_matmul(graph, f.flip(p), dout, dv);
  const Ref dp = f.pointwise(CUDNN_POINTWISE_SUB, f.matmul(dout, v, f.scores), row_sums, f.scores);
  const Ref ds =
      f.pointwise(CUDNN_POINTWISE_MUL, f.pointwise(CUDNN_POINTWISE_MUL, dp, p, f.scores), scale, f.scores);
  add_matmul(graph, f.flip(ds), q, dk);
  const Ref k_again =
      graph.intermediate(kNarrow, {s.batch, s.heads, s.keys, s.dim}, {s.k[0], s.k[1], s.k[2], 1});
  add_reshape(graph, k, k_again);
  add_matmul(graph, ds, k_again, dq);
}

}  // namespace tandem::cuda
