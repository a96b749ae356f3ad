#include "cuda/dnn_formula.h"

namespace tandem::cuda {

void add_pointwise(DnnGraph& graph, const Pointwise& p) {
  DnnDescriptor mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  mode.set(CUDNN_ATTR_POINTWISE_MODE, p.mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, p.compute);
  if (p.axis >= 0) mode.set(CUDNN_ATTR_POINTWISE_AXIS, p.axis);
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, graph.keep(mode.finalize("pointwise")))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p.x)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, p.y);
  if (p.b) d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p.b);
  if (p.select) d.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p.select);
  graph.add(std::move(d));
}

void add_matmul(DnnGraph& graph, DnnGraph::Ref a, DnnGraph::Ref b, DnnGraph::Ref y) {
  const auto product = graph.keep(DnnDescriptor(CUDNN_BACKEND_MATMUL_DESCRIPTOR)
                                      .set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT)
                                      .finalize("matmul"));
  graph.add(DnnDescriptor(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
                .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, product)
                .set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a)
                .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b)
                .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, y));
}

void add_reduction(DnnGraph& graph, cudnnReduceTensorOp_t op, DnnGraph::Ref x, DnnGraph::Ref y) {
  const auto reduction = graph.keep(DnnDescriptor(CUDNN_BACKEND_REDUCTION_DESCRIPTOR)
                                        .set(CUDNN_ATTR_REDUCTION_OPERATOR, op)
                                        .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT)
                                        .finalize("reduction"));
  graph.add(DnnDescriptor(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
                .set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, reduction)
                .set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x)
                .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y));
}

void add_reshape(DnnGraph& graph, DnnGraph::Ref x, DnnGraph::Ref y) {
  graph.add(DnnDescriptor(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
                .set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x)
                .set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y));
}

}  // namespace tandem::cuda
