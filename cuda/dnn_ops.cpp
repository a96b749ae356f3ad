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
    DnnDescriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
        .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, sum_type(dtype))
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Dims{s.pad_h, s.pad_w})
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Dims{s.pad_h, s.pad_w})
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Dims{s.stride_h, s.stride_w})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, Dims{s.dilation_h, s.dilation_w})
        .finalize("convolution");
    convolution = graph.keep(std::move(d));
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

// ---- norms

namespace {

// What a norm's statistics and weights look like beside its x.
struct NormTensors {
  cudnnBackendNormMode_t mode;
  cudnnDataType_t type;
  Dims x, strides, weight, statistics;
};
// The library wants rows as maps of one pixel whose channels lie together.
NormTensors of_rows(RowsSize s, DType dtype) {
  const int64_t c = s.columns;
  return {CUDNN_LAYER_NORM, dnn_type(dtype), {s.rows, c, 1, 1},
          {c, 1, c, c},     {1, c, 1, 1},    {s.rows, 1, 1, 1}};
}
NormTensors of_maps(MapsSize s, DType dtype) {
  const Dims x{s.n, s.channels, s.h, s.w}, channel{1, s.channels, 1, 1};
  return {CUDNN_BATCH_NORM, dnn_type(dtype), x, dense_strides(x), channel, channel};
}

struct NormBuilder {
  DnnGraph& graph;
  const NormTensors& t;
  Ref x() { return graph.tensor(t.type, t.x, t.strides); }
  Ref weight() {  // channels lie together where those of x do
    const Dims strides{t.weight[1], 1, t.weight[1], t.weight[1]};
    return t.strides[1] == 1 ? graph.tensor(kFloat, t.weight, strides) : graph.tensor(kFloat, t.weight);
  }
  Ref statistics() { return graph.tensor(kFloat, t.statistics); }
};

void norm_forward(DnnGraph& graph, const NormTensors& t, double eps) {
  NormBuilder add{graph, t};
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, t.mode)
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_NORM_FWD_TRAINING)
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, graph.constant(static_cast<float>(eps), 4))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, add.x())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, add.weight())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, add.weight())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, add.statistics())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, add.statistics())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, add.x());
  graph.add(std::move(d));
}

void norm_backward(DnnGraph& graph, const NormTensors& t) {
  NormBuilder add{graph, t};
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, t.mode)
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, add.x())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, add.x())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, add.weight())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, add.statistics())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, add.statistics())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, add.weight())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, add.weight())
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, add.x());
  graph.add(std::move(d));
}

}  // namespace

void layer_norm_forward(DnnGraph& graph, RowsSize size, DType dtype, double eps) {
  norm_forward(graph, of_rows(size, dtype), eps);
}
void layer_norm_backward(DnnGraph& graph, RowsSize size, DType dtype) {
  norm_backward(graph, of_rows(size, dtype));
}
bool batch_norm_supported(MapsSize size, DType dtype) {
  return dtype != DType::f64 && size.channels * size_of(dtype) % 16 == 0;
}
void batch_norm_forward(DnnGraph& graph, MapsSize size, DType dtype, double eps) {
  norm_forward(graph, of_maps(size, dtype), eps);
}
void batch_norm_backward(DnnGraph& graph, MapsSize size, DType dtype) {
  norm_backward(graph, of_maps(size, dtype));
}

}  // namespace tandem::cuda
