#include "cuda/dnn_ops.h"

#include "autograd/error.h"
#include "cuda/dnn_formula.h"

namespace tandem::cuda {
namespace {

using Ref = DnnGraph::Ref;
constexpr auto kFloat = CUDNN_DATA_FLOAT;

cudnnDataType_t sum_type(DType dtype) { return dtype == DType::f64 ? CUDNN_DATA_DOUBLE : kFloat; }

}  // namespace

cudnnDataType_t dnn_type(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    case DType::f32:
      return CUDNN_DATA_FLOAT;
    case DType::f64:
      return CUDNN_DATA_DOUBLE;
    default:
      raise<DTypeError>("cuDNN: expected a floating dtype (bf16, f32, f64), got {}", name_of(dtype));
  }
}

// ---- convolution

namespace {

struct ConvTensors {
  cudnnDataType_t type;
  Dims x, weight, y;
  Ref convolution;

  ConvTensors(DnnGraph& graph, const ConvShape& s, DType dtype)
      : type(dnn_type(dtype)),
        x{s.n, s.c, s.h, s.w},
        weight{s.o, s.c / s.groups, s.kh, s.kw},
        y{s.n, s.o, s.out_h(), s.out_w()} {
    convolution = graph.keep(DnnDescriptor(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)
                                 .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
                                 .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, sum_type(dtype))
                                 .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
                                 .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Dims{s.pad_h, s.pad_w})
                                 .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Dims{s.pad_h, s.pad_w})
                                 .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Dims{s.stride_h, s.stride_w})
                                 .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, Dims{s.dilation_h, s.dilation_w})
                                 .finalize("convolution"));
  }
};

// alpha and beta are of the type of the sums.
void set_scales(DnnDescriptor& d, DnnDescriptor::Name alpha, DnnDescriptor::Name beta, DType dtype) {
  if (dtype == DType::f64) {
    d.set(alpha, 1.0).set(beta, 0.0);
  } else {
    d.set(alpha, 1.0f).set(beta, 0.0f);
  }
}

}  // namespace

void conv_forward(DnnGraph& graph, const ConvShape& shape, DType dtype, bool bias) {
  const ConvTensors t(graph, shape, dtype);
  const Ref x = graph.tensor(t.type, t.x), weight = graph.tensor(t.type, t.weight);
  const Ref added = bias ? graph.tensor(t.type, {1, shape.o, 1, 1}) : nullptr;
  const Ref y = graph.tensor(t.type, t.y);
  const Ref product = bias ? graph.intermediate(sum_type(dtype), t.y) : y;
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, t.convolution)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, product);
  set_scales(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
             dtype);
  graph.add(std::move(d));
  if (bias) {
    add_pointwise(
        graph, {.mode = CUDNN_POINTWISE_ADD, .x = product, .b = added, .y = y, .compute = sum_type(dtype)});
  }
}

void conv_data(DnnGraph& graph, const ConvShape& shape, DType dtype) {
  const ConvTensors t(graph, shape, dtype);
  const Ref dy = graph.tensor(t.type, t.y), weight = graph.tensor(t.type, t.weight);
  const Ref dx = graph.tensor(t.type, t.x);
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, t.convolution)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, dy)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, weight)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dx);
  set_scales(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, dtype);
  graph.add(std::move(d));
}

void conv_weights(DnnGraph& graph, const ConvShape& shape, DType dtype) {
  const ConvTensors t(graph, shape, dtype);
  const Ref x = graph.tensor(t.type, t.x), dy = graph.tensor(t.type, t.y);
  const Ref dweight = graph.tensor(t.type, t.weight);
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, t.convolution)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, x)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, dy)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, dweight);
  set_scales(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, dtype);
  graph.add(std::move(d));
}

}  // namespace tandem::cuda
