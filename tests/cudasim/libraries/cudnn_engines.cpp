// What the simulated library proposes for a graph. What it declines is what the real one was seen to decline
// (tests/cuda/plans asks it). Before the engine that computes as one expects, others are proposed that a
// caller has to know about: one that cannot be built, one that gives other bits in every run, one that rounds
// f32 inputs to TF32.
#include <algorithm>

#include "libraries/cudnn_count.h"
#include "libraries/cudnn_graph.h"

namespace cudasim {
namespace {

bool is_floating(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_BFLOAT16 || type == CUDNN_DATA_DOUBLE;
}

bool convolution_supported(const Descriptor& graph, const Descriptor& operation) {
  const std::vector<DnnTensor> all = outside_tensors(graph);
  const cudnnDataType_t type = all.at(0).type;
  if (!is_floating(type)) dnn_not_simulated("convolutions of type " + std::to_string(type));
  for (const DnnTensor& t : all) {
    if (t.type != type) return false;
    if (t.strides != dense(t.dims)) dnn_not_simulated("convolutions of other layouts than NCHW");
  }
  for (const auto& [name, attribute] : operation.attributes) {
    for (const Node& child : attribute.children) {
      if (child->type != CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR) continue;
      const auto sums = child->value(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
      if (sums != (type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT)) return false;
    }
  }
  const auto& operations = graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children;
  if (operations.size() == 1) return true;
  const bool bias = operations.size() == 2 &&
                    operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR &&
                    operations[1]->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
  if (!bias) dnn_not_simulated("convolutions fused with other operations than a bias");
  if (!dnn_fuses_bias()) return false;
  return true;
}

// The pattern of attention: products, a softmax, and statistics of f32.
bool attention_supported(const Descriptor& graph, bool backward) {
  for (const DnnTensor& t : outside_tensors(graph)) {
    if (t.by_value) continue;
    if (t.dims.size() != 4) dnn_not_simulated("formulas but of rank 4");
    for (size_t d = 0; d < 4; ++d)
      if (t.dims[d] > 1 && t.strides[d] == 0) dnn_not_simulated("attention whose rows lie in one place");
    const bool statistics = t.type == CUDNN_DATA_FLOAT && t.dims[3] == 1;
    if (statistics) continue;
    if (t.type != CUDNN_DATA_BFLOAT16) return false;
    const int64_t columns = t.strides[3] == 1 ? t.dims[3] : t.dims[2];
    if (columns % 8 != 0 || columns > (backward ? 128 : 256)) return false;
  }
  return true;
}

bool supported(const Descriptor& graph) {
  const Descriptor& first = *graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children[0];
  switch (kind_of(graph)) {
    case DnnKind::convolution:
      return convolution_supported(graph, first);
    case DnnKind::attention:
      return attention_supported(graph, false);
    default:
      return attention_supported(graph, true);
  }
}

bool is_backward(const Descriptor& graph) {
  switch (graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children[0]->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return true;
    default:
      return false;
  }
}

}  // namespace

DnnKind kind_of(const Descriptor& graph) {
  const auto& operations = graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children;
  switch (operations[0]->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return DnnKind::convolution;
    default:
      break;
  }
  const auto products = std::count_if(operations.begin(), operations.end(), [](const Node& op) {
    return op->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
  });
  if (products == 2) return DnnKind::attention;
  if (products == 5) return DnnKind::attention_gradient;
  dnn_not_simulated(std::string("a graph that begins with: ") + name_of(operations[0]->type));
}

double planning_seconds_of(DnnKind kind) {
  switch (kind) {
    case DnnKind::convolution:
      return 0.01;
    case DnnKind::attention:
      return 0.35;
    default:
      return 0.33;
  }
}

std::vector<DnnTensor> outside_tensors(const Descriptor& graph) {
  std::map<int64_t, DnnTensor> found;
  for (const Node& operation : graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).children) {
    for (const auto& [name, attribute] : operation->attributes) {
      for (const Node& child : attribute.children) {
        if (child->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
        const DnnTensor t(*child);
        if (!t.is_virtual) found.emplace(t.uid, t);
      }
    }
  }
  std::vector<DnnTensor> all;
  for (auto& [uid, t] : found) all.push_back(std::move(t));
  return all;
}

std::vector<DnnEngine> engines_for(const Descriptor& graph) {
  if (!supported(graph)) return {};
  const bool narrow = outside_tensors(graph).at(0).type != CUDNN_DATA_FLOAT;
  std::vector<DnnEngine> engines{{40, {}, false}};
  if (is_backward(graph)) engines.push_back({41, {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}});
  if (narrow) {
    engines.push_back({43, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}});
  } else {
    engines.push_back({42, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}});
    engines.push_back({1, {}});
  }
  return engines;
}

int64_t workspace_of(const Descriptor& graph, const DnnEngine& engine) {
  int64_t bytes = 256 + 16 * engine.index;
  for (const DnnTensor& t : outside_tensors(graph)) bytes += 4 * t.count();
  return bytes;
}

}  // namespace cudasim
