// What the simulated cuDNN asks of descriptors when they are finalized.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "libraries/cudnn_graph.h"

namespace cudasim {
namespace {

std::string text(const Dims& dims) {
  std::string list = "[";
  for (const int64_t size : dims) {
    if (list.size() > 1) list += ',';
    list += std::to_string(size);
  }
  return list += ']';
}
void check_same(const Dims& a, const Dims& b, const std::string& what) {
  if (a != b)
    dnn_fail(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, what + ": " + text(a) + " expected, not " + text(b));
}
void check_rank(const DnnTensor& t, size_t rank, const std::string& what) {
  dnn_check(t.dims.size() == rank,
            what + ": rank " + std::to_string(rank) + " expected, not " + text(t.dims));
}
// The tensor of an attribute that is set.
DnnTensor tensor(const Descriptor& d, cudnnBackendAttributeName_t name) {
  const Node child = d.child(name);
  dnn_check(child->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor is expected");
  return DnnTensor(*child);
}
const Descriptor& part(const Descriptor& d, cudnnBackendAttributeName_t name,
                       cudnnBackendDescriptorType_t type) {
  const Node child = d.child(name);
  dnn_check(child->type == type, std::string("a ") + name_of(type) + " descriptor is expected");
  return *child;
}

void check_tensor(const Descriptor& d) {
  const DnnTensor t(d);
  dnn_check(t.dims.size() == t.strides.size(), "tensor: as many strides as dimensions are expected");
  for (size_t i = 0; i < t.dims.size(); ++i) {
    dnn_check(t.dims[i] >= 1, "tensor: a dimension of " + text(t.dims) + " is below 1");
    dnn_check(t.strides[i] >= 0, "tensor: a stride of " + text(t.strides) + " is negative");
  }
  const auto size = static_cast<int64_t>(dnn_size_of(t.type));
  dnn_check(t.alignment > 0 && t.alignment % size == 0, "tensor: alignment " + std::to_string(t.alignment));
  dnn_check(!(t.is_virtual && t.by_value), "tensor: virtual and by value");
  if (t.by_value) {
    dnn_check(t.count() == 1, "tensor: by value " + text(t.dims));
    if (t.type != CUDNN_DATA_FLOAT) dnn_not_simulated("constants of data type " + std::to_string(t.type));
  }
}

void check_convolution(const Descriptor& d) {
  const auto rank = static_cast<size_t>(d.value<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0));
  if (rank != 2) dnn_not_simulated("convolutions of " + std::to_string(rank) + " dimensions");
  if (d.value(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CONVOLUTION) != CUDNN_CROSS_CORRELATION)
    dnn_not_simulated("convolutions that turn the filter");
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
                          CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_DILATIONS}) {
    const bool padding =
        name == CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS || name == CUDNN_ATTR_CONVOLUTION_POST_PADDINGS;
    const Dims values = d.values<int64_t>(name);
    dnn_check(values.size() == rank, "convolution: one value for every spatial dimension is expected");
    for (const int64_t value : values) dnn_check(value >= (padding ? 0 : 1), "convolution: " + text(values));
  }
}

void check_convolution_operation(const Descriptor& d, cudnnBackendAttributeName_t conv,
                                 cudnnBackendAttributeName_t x_name, cudnnBackendAttributeName_t w_name,
                                 cudnnBackendAttributeName_t y_name) {
  const Descriptor& c = part(d, conv, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const DnnTensor x = tensor(d, x_name), w = tensor(d, w_name), y = tensor(d, y_name);
  for (const DnnTensor& t : {x, w, y}) check_rank(t, 4, "convolution");
  dnn_check(x.dims[1] % w.dims[1] == 0, "convolution: channels of x " + text(x.dims) + ", w " + text(w.dims));
  dnn_check(w.dims[0] % (x.dims[1] / w.dims[1]) == 0, "convolution: groups do not divide w " + text(w.dims));
  Dims expected{x.dims[0], w.dims[0]};
  const Dims before = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
             after = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
             stride = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
             dilation = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
  for (size_t i = 0; i < 2; ++i) {
    const int64_t reach = dilation[i] * (w.dims[i + 2] - 1) + 1, size = x.dims[i + 2] + before[i] + after[i];
    dnn_check(size >= reach, "convolution: the filter " + text(w.dims) + " is larger than x " + text(x.dims));
    expected.push_back((size - reach) / stride[i] + 1);
  }
  check_same(expected, y.dims, "convolution: y");
}

// Every operand has the dimensions of y, or 1.
void check_broadcast(const DnnTensor& operand, const DnnTensor& y, const std::string& what) {
  bool fits = operand.dims.size() == y.dims.size();
  for (size_t i = 0; fits && i < y.dims.size(); ++i)
    fits = operand.dims[i] == y.dims[i] || operand.dims[i] == 1;
  if (!fits)
    dnn_fail(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, what + ": " + text(operand.dims) + " to " + text(y.dims));
}

void check_pointwise(const Descriptor& d) {
  const Descriptor& mode =
      part(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  const DnnTensor y = tensor(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
  check_broadcast(tensor(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC), y, "pointwise: x");
  const bool b = d.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC), t = d.has(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
  if (b) check_broadcast(tensor(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC), y, "pointwise: b");
  if (t) check_broadcast(tensor(d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC), y, "pointwise: t");
  const auto operation = mode.value(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
  const auto takes = [&](bool wants_b, bool wants_t) {
    dnn_check(b == wants_b && t == wants_t, "pointwise: operands of mode " + std::to_string(operation));
  };
  switch (operation) {
    case CUDNN_POINTWISE_ADD:
    case CUDNN_POINTWISE_SUB:
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_DIV:
    case CUDNN_POINTWISE_CMP_GE:
      return takes(true, false);
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_LOG:
      return takes(false, false);
    case CUDNN_POINTWISE_GEN_INDEX: {
      const auto axis = mode.value<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, -1);
      dnn_check(axis >= 0 && axis < static_cast<int64_t>(y.dims.size()), "pointwise: axis of an index");
      return takes(false, false);
    }
    case CUDNN_POINTWISE_BINARY_SELECT:
      return takes(true, true);
    default:
      dnn_not_simulated("pointwise mode " + std::to_string(operation));
  }
}

void check_matmul(const Descriptor& d) {
  part(d, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  const DnnTensor a = tensor(d, CUDNN_ATTR_OPERATION_MATMUL_ADESC),
                  b = tensor(d, CUDNN_ATTR_OPERATION_MATMUL_BDESC),
                  y = tensor(d, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
  const size_t rank = a.dims.size();
  dnn_check(rank >= 2, "matmul: rank");
  check_rank(b, rank, "matmul"), check_rank(y, rank, "matmul");
  const std::string sizes = "matmul: " + text(a.dims) + " by " + text(b.dims) + " to " + text(y.dims);
  dnn_check(a.dims[rank - 1] == b.dims[rank - 2] && y.dims[rank - 2] == a.dims[rank - 2] &&
                y.dims[rank - 1] == b.dims[rank - 1],
            sizes);
  for (size_t i = 0; i + 2 < rank; ++i) dnn_check(a.dims[i] == y.dims[i] && b.dims[i] == y.dims[i], sizes);
}

void check_reduction(const Descriptor& d) {
  const Descriptor& r = part(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  const auto op = r.value(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_REDUCE_TENSOR_ADD);
  if (op != CUDNN_REDUCE_TENSOR_ADD && op != CUDNN_REDUCE_TENSOR_MAX)
    dnn_not_simulated("reduction " + std::to_string(op));
  check_broadcast(tensor(d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC),
                  tensor(d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC), "reduction: y");
}

// The same memory seen with other dimensions; transpositions of the last two are what it is used for.
void check_reshape(const Descriptor& d) {
  DnnTensor x = tensor(d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
  const DnnTensor y = tensor(d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
  const size_t rank = x.dims.size();
  dnn_check(rank >= 2, "reshape: rank");
  std::swap(x.dims[rank - 1], x.dims[rank - 2]);
  std::swap(x.strides[rank - 1], x.strides[rank - 2]);
  if (y.dims != x.dims || y.strides != x.strides) dnn_not_simulated("reshapes that are no transposition");
}

// Every tensor has its own uid, is written once, and if virtual, before it is read.
void check_graph(const Descriptor& d) {
  std::map<int64_t, const Descriptor*> by_uid;
  std::set<int64_t> written;
  for (const Node& operation : d.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children) {
    for (const auto& [name, attribute] : operation->attributes) {
      for (const Node& child : attribute.children) {
        if (child->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
        const DnnTensor t(*child);
        const auto& [found, fresh] = by_uid.emplace(t.uid, child.get());
        if (found->second != child.get())
          dnn_fail(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
                   "operation graph: two tensors of uid " + std::to_string(t.uid));
        if (is_output(name)) {
          dnn_check(!t.by_value, "operation graph: a constant is written");
          dnn_check(written.insert(t.uid).second,
                    "operation graph: tensor " + std::to_string(t.uid) + " is written twice");
        } else if (t.is_virtual) {
          dnn_check(written.count(t.uid) != 0, "operation graph: virtual tensor " + std::to_string(t.uid) +
                                                   " is read before it is made");
        }
      }
    }
  }
}

}  // namespace

bool is_output(cudnnBackendAttributeName_t name) {
  switch (name) {
    case CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW:
    case CUDNN_ATTR_OPERATION_POINTWISE_YDESC:
    case CUDNN_ATTR_OPERATION_MATMUL_CDESC:
    case CUDNN_ATTR_OPERATION_REDUCTION_YDESC:
    case CUDNN_ATTR_OPERATION_RESHAPE_YDESC:
      return true;
    default:
      return false;
  }
}

void check_descriptor(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return check_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return check_convolution(d);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return check_convolution_operation(
          d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return check_convolution_operation(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return check_convolution_operation(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return check_pointwise(d);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return check_matmul(d);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return check_reduction(d);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return check_reshape(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return check_graph(d);
    default:
      return;
  }
}

}  // namespace cudasim
