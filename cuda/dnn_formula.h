// Operations that formulas are made of in a graph: pointwise, matrix product, reduction, transposition.
#pragma once

#include "cuda/dnn_graph.h"

namespace tandem::cuda {

struct Pointwise {
  cudnnPointwiseMode_t mode;
  DnnGraph::Ref x, b = nullptr, select = nullptr;  // mode(x), mode(x, b), select ? x : b
  DnnGraph::Ref y;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  int64_t axis = -1;  // of an index
};
void add_pointwise(DnnGraph& graph, const Pointwise& pointwise);

// Computed in f32. The reduction is over the dimensions that are 1 in y.
void add_matmul(DnnGraph& graph, DnnGraph::Ref a, DnnGraph::Ref b, DnnGraph::Ref y);
void add_reduction(DnnGraph& graph, cudnnReduceTensorOp_t op, DnnGraph::Ref x, DnnGraph::Ref y);
void add_reshape(DnnGraph& graph, DnnGraph::Ref x, DnnGraph::Ref y);  // to y's dims and strides

}  // namespace tandem::cuda
