#include "cuda/dnn_formula.h"

namespace tandem::cuda {

void add_pointwise(DnnGraph& graph, const Pointwise& p) {
  DnnDescriptor mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  mode.set(CUDNN_ATTR_POINTWISE_MODE, p.mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, p.compute);
  if (p.axis >= 0) mode.set(CUDNN_ATTR_POINTWISE_AXIS, p.axis);
  mode.finalize("pointwise");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, graph.keep(std::move(mode)))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p.x)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, p.y);
  if (p.b) d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p.b);
  if (p.select) d.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p.select);
  graph.add(std::move(d));
}

void add_matmul(DnnGraph& graph, DnnGraph::Ref a, DnnGraph::Ref b, DnnGraph::Ref y) {
  DnnDescriptor type(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  type.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT).finalize("matmul");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, graph.keep(std::move(type)))
      .set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a)
      .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b)
      .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
  graph.add(std::move(d));
}

void add_reduction(DnnGraph& graph, cudnnReduceTensorOp_t op, DnnGraph::Ref x, DnnGraph::Ref y) {
  DnnDescriptor type(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  type.set(CUDNN_ATTR_REDUCTION_OPERATOR, op)
      .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .finalize("reduction");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, graph.keep(std::move(type)))
      .set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
  graph.add(std::move(d));
}

void add_reshape(DnnGraph& graph, DnnGraph::Ref x, DnnGraph::Ref y) {
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x).set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
  graph.add(std::move(d));
}

}  // namespace tandem::cuda
