// Execution of graphs by the formulas of their operations, in f64; each result is rounded to its tensor's
// type.
#include <cmath>
#include <limits>

#include "libraries/cudnn_graph.h"
#include "sim.h"

namespace cudasim {
namespace {

class Execution {
 public:
  explicit Execution(const DnnExecution& execution) : all_(execution) {
    for (const auto note : execution.engine.notes) {
      tf32_ |= note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
      unsteady_ |= note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    }
  }

  void run() {
    for (const Node& op : all_.graph->attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children) run(*op);
  }

 private:
  void run(const Descriptor& op);
  void convolution(const Descriptor& op, cudnnBackendAttributeName_t conv, cudnnBackendAttributeName_t x,
                   cudnnBackendAttributeName_t w, cudnnBackendAttributeName_t y,
                   cudnnBackendAttributeName_t alpha, cudnnBackendAttributeName_t beta);
  void pointwise(const Descriptor& op);
  void matmul(const Descriptor& op);
  void reduction(const Descriptor& op);
  void reshape(const Descriptor& op);

  static DnnTensor tensor(const Descriptor& op, cudnnBackendAttributeName_t name) {
    return DnnTensor(*op.child(name));
  }
  std::string who(const Descriptor& op, const DnnTensor& t) const {
    return std::string("cudnnBackendExecute: ") + name_of(op.type) + ": tensor " + std::to_string(t.uid);
  }

  // The values of an operand: made before, constant, or in memory.
  Values get(const Descriptor& op, cudnnBackendAttributeName_t name) {
    const DnnTensor t = tensor(op, name);
    if (const auto made = made_.find(t.uid); made != made_.end()) return made->second;
    if (t.by_value) return {all_.constants.at(t.uid)};
    Values values = read_tensor(t, all_.pointers.at(t.uid), who(op, t));
    if (tf32_ && t.type == CUDNN_DATA_FLOAT) {
      for (double& value : values) value = rounded_to_tf32(value);
    }
    return values;
  }
  void put(const Descriptor& op, cudnnBackendAttributeName_t name, Values values) {
    const DnnTensor t = tensor(op, name);
    for (double& value : values) {
      if (unsteady_) value *= 1 + 1e-6 * (static_cast<double>(++runs_ % 7) - 3);
      value = rounded(value, t.type);
    }
    if (t.in_memory()) write_tensor(t, all_.pointers.at(t.uid), values, who(op, t));
    made_[t.uid] = std::move(values);
  }

  const DnnExecution& all_;
  bool tf32_ = false, unsteady_ = false;
  static inline uint64_t runs_ = 0;
  std::map<int64_t, Values> made_;
};

void Execution::run(const Descriptor& op) {
  switch (op.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return convolution(
          op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return convolution(
          op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return convolution(
          op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return pointwise(op);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return matmul(op);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return reduction(op);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return reshape(op);
    default:
      dnn_not_simulated(name_of(op.type));
  }
}

// y = conv(x, w): each product of an x and a w goes to one y, and backwards likewise.
void Execution::convolution(const Descriptor& op, cudnnBackendAttributeName_t conv,
                            cudnnBackendAttributeName_t x_name, cudnnBackendAttributeName_t w_name,
                            cudnnBackendAttributeName_t y_name, cudnnBackendAttributeName_t alpha,
                            cudnnBackendAttributeName_t beta) {
  const auto factor = [&](cudnnBackendAttributeName_t name) {
    return op.attributes.at(name).type == CUDNN_TYPE_DOUBLE ? op.value(name, 0.0)
                                                            : double{op.value(name, 0.0f)};
  };
  if (factor(alpha) != 1 || factor(beta) != 0) dnn_not_simulated("convolutions but by alpha 1 and beta 0");
  const Descriptor& c = *op.child(conv);
  const Dims x = tensor(op, x_name).dims, w = tensor(op, w_name).dims, y = tensor(op, y_name).dims;
  const Dims padding = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
             stride = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
             dilation = c.values<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
  Values xs = is_output(x_name) ? Values(count_of(x)) : get(op, x_name),
         ws = is_output(w_name) ? Values(count_of(w)) : get(op, w_name),
         ys = is_output(y_name) ? Values(count_of(y)) : get(op, y_name);
  const int64_t outputs = w[0] / (x[1] / w[1]);  // of a group
  int64_t to = 0;
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t k = 0; k < y[1]; ++k)
      for (int64_t p = 0; p < y[2]; ++p)
        for (int64_t q = 0; q < y[3]; ++q, ++to)
          for (int64_t i = 0; i < w[1] * w[2] * w[3]; ++i) {
            const int64_t r = i / w[3] % w[2], s = i % w[3], channel = k / outputs * w[1] + i / (w[2] * w[3]);
            const int64_t h = p * stride[0] - padding[0] + r * dilation[0],
                          v = q * stride[1] - padding[1] + s * dilation[1];
            if (h < 0 || h >= x[2] || v < 0 || v >= x[3]) continue;
            double &xv = xs[((n * x[1] + channel) * x[2] + h) * x[3] + v],
                   &wv = ws[k * w[1] * w[2] * w[3] + i], &yv = ys[to];
            if (is_output(y_name)) {
              yv += xv * wv;
            } else if (is_output(x_name)) {
              xv += yv * wv;
            } else {
              wv += xv * yv;
            }
          }
  if (is_output(y_name)) put(op, y_name, std::move(ys));
  if (is_output(x_name)) put(op, x_name, std::move(xs));
  if (is_output(w_name)) put(op, w_name, std::move(ws));
}

void Execution::pointwise(const Descriptor& op) {
  const Descriptor& d = *op.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  const auto mode = d.value(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
  const Dims dims = tensor(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC).dims;
  Values operands[3];
  std::vector<Dims> strides;
  int given = 0;
  for (const auto name : {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                          CUDNN_ATTR_OPERATION_POINTWISE_TDESC}) {
    if (!op.has(name)) continue;
    operands[given++] = get(op, name);
    strides.push_back(broadcast_strides(tensor(op, name).dims));
  }
  // An index is the position along its axis.
  const auto axis = d.value<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, 0);
  const int64_t step = dense(dims)[axis], size = dims[axis];
  Values y;
  for_each_index(dims, strides, [&](const Dims& at) {
    const double x = operands[0][at[0]], b = given > 1 ? operands[1][at[1]] : 0;
    const auto position = static_cast<int64_t>(y.size());
    switch (mode) {
      case CUDNN_POINTWISE_ADD:
        return y.push_back(x + b);
      case CUDNN_POINTWISE_SUB:
        return y.push_back(x - b);
      case CUDNN_POINTWISE_MUL:
        return y.push_back(x * b);
      case CUDNN_POINTWISE_DIV:
        return y.push_back(x / b);
      case CUDNN_POINTWISE_EXP:
        return y.push_back(std::exp(x));
      case CUDNN_POINTWISE_LOG:
        return y.push_back(std::log(x));
      case CUDNN_POINTWISE_CMP_GE:
        return y.push_back(x >= b ? 1 : 0);
      case CUDNN_POINTWISE_GEN_INDEX:
        return y.push_back(static_cast<double>(position / step % size));
      case CUDNN_POINTWISE_BINARY_SELECT:
        return y.push_back(operands[2][at[2]] != 0 ? x : b);
      default:
        dnn_not_simulated("pointwise mode " + std::to_string(mode));
    }
  });
  put(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, std::move(y));
}

void Execution::matmul(const Descriptor& op) {
  const Dims a = tensor(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC).dims,
             y = tensor(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC).dims;
  const Values as = get(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC),
               bs = get(op, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
  const int64_t rows = y[y.size() - 2], columns = y.back(), inner = a.back();
  Values ys(count_of(y));
  for (int64_t i = 0; i < count_of(y); ++i) {
    const int64_t column = i % columns, row = i / columns, batch = row / rows;
    for (int64_t k = 0; k < inner; ++k)
      ys[i] += as[row * inner + k] * bs[(batch * inner + k) * columns + column];
  }
  put(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, std::move(ys));
}

void Execution::reduction(const Descriptor& op) {
  const bool max =
      op.child(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
          ->value(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_REDUCE_TENSOR_ADD) == CUDNN_REDUCE_TENSOR_MAX;
  const Dims x = tensor(op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC).dims,
             y = tensor(op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC).dims;
  const Values xs = get(op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
  Values ys(count_of(y), max ? -std::numeric_limits<double>::infinity() : 0);
  for_each_index(x, {dense(x), broadcast_strides(y)}, [&](const Dims& at) {
    double& to = ys[at[1]];
    to = max ? std::fmax(to, xs[at[0]]) : to + xs[at[0]];
  });
  put(op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, std::move(ys));
}

void Execution::reshape(const Descriptor& op) {  // a transposition
  const Dims y = tensor(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC).dims;
  const Values xs = get(op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
  const int64_t rows = y[y.size() - 2], columns = y.back();
  Values ys(xs.size());
  for (int64_t i = 0; i < count_of(y); ++i) {
    const int64_t matrix = i / (rows * columns), row = i / columns % rows, column = i % columns;
    ys[i] = xs[(matrix * columns + column) * rows + row];
  }
  put(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, std::move(ys));
}

}  // namespace

void execute_graph(const DnnExecution& execution) { Execution(execution).run(); }

}  // namespace cudasim
