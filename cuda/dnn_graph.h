// Operation graphs and execution plans of cuDNN 9, by its backend C API alone. A plan is made for a handle,
// which stands for the device at hand, or for the properties of a device that need not be there.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tandem::cuda {

// A call that did not succeed. what() is "<call> returned <status>: <the library's own words>".
struct DnnFailure : std::runtime_error {
  cudnnStatus_t status;
  DnnFailure(cudnnStatus_t status, const std::string& call);
  // The library has nothing for the problem, as opposed to a mistake or a broken device.
  bool unsupported() const { return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED; }
  // Of a plan's making: there is none, and nothing else is wrong. Versions differ in how they decline, and an
  // engine that fails to compile is an internal error.
  bool declined() const { return refused() || CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_INTERNAL_ERROR; }
  // Of an execution: nothing was run. Versions differ in what an engine takes that they proposed themselves.
  bool refused() const { return unsupported() || CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_BAD_PARAM; }
};
void check_dnn(cudnnStatus_t status, const char* call, const std::string& of = {});  // call(of)

// The type tag of an attribute, by the type of its value.
constexpr auto dnn_attribute(int64_t) { return CUDNN_TYPE_INT64; }
constexpr auto dnn_attribute(char) { return CUDNN_TYPE_CHAR; }
constexpr auto dnn_attribute(bool) { return CUDNN_TYPE_BOOLEAN; }
constexpr auto dnn_attribute(float) { return CUDNN_TYPE_FLOAT; }
constexpr auto dnn_attribute(double) { return CUDNN_TYPE_DOUBLE; }
constexpr auto dnn_attribute(cudnnHandle_t) { return CUDNN_TYPE_HANDLE; }
constexpr auto dnn_attribute(cudnnBackendDescriptor_t) { return CUDNN_TYPE_BACKEND_DESCRIPTOR; }
constexpr auto dnn_attribute(cudnnDataType_t) { return CUDNN_TYPE_DATA_TYPE; }
constexpr auto dnn_attribute(cudnnConvolutionMode_t) { return CUDNN_TYPE_CONVOLUTION_MODE; }
constexpr auto dnn_attribute(cudnnPointwiseMode_t) { return CUDNN_TYPE_POINTWISE_MODE; }
constexpr auto dnn_attribute(cudnnReduceTensorOp_t) { return CUDNN_TYPE_REDUCTION_OPERATOR_TYPE; }
constexpr auto dnn_attribute(cudnnBackendHeurMode_t) { return CUDNN_TYPE_HEUR_MODE; }

// An owned backend descriptor. A chain of set and finalize may be given away, as to DnnGraph::add.
class DnnDescriptor {
 public:
  using Raw = cudnnBackendDescriptor_t;
  using Name = cudnnBackendAttributeName_t;

  explicit DnnDescriptor(cudnnBackendDescriptorType_t type);
  DnnDescriptor(DnnDescriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  DnnDescriptor& operator=(DnnDescriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~DnnDescriptor();

  Raw raw() const { return raw_; }

  DnnDescriptor&& set(Name name, cudnnBackendAttributeType_t type, size_t count, const void* values);
  template <class T> DnnDescriptor&& set(Name name, T value) {
    return set(name, dnn_attribute(value), 1, &value);
  }
  template <class T> DnnDescriptor&& set(Name name, const std::vector<T>& values) {
    return set(name, dnn_attribute(T{}), values.size(), values.data());
  }
  DnnDescriptor&& finalize(const char* what);  // `what` names the descriptor in an error

  int64_t get_int(Name name) const;
  // Writes at most `count` values; without `values`, and in every case, how many there are.
  int64_t get(Name name, cudnnBackendAttributeType_t type, int64_t count, void* values) const;

 private:
  Raw raw_ = nullptr;
};

using Dims = std::vector<int64_t>;
Dims dense_strides(const Dims& dims);

// Operations over tensors. Tensors in memory are numbered in the order in which they were added, which is the
// order of their pointers in DnnPlan::execute.
class DnnGraph {
 public:
  using Ref = DnnDescriptor::Raw;  // valid as long as the graph

  // `alignment`, in bytes, is what the pointers of all tensors have at least, beside that of their elements.
  explicit DnnGraph(int64_t alignment = 16) : alignment_(alignment) {}

  Ref tensor(cudnnDataType_t type, const Dims& dims, const Dims& strides);
  Ref tensor(cudnnDataType_t type, const Dims& dims) { return tensor(type, dims, dense_strides(dims)); }
  // Between two operations, never in memory.
  Ref intermediate(cudnnDataType_t type, const Dims& dims, const Dims& strides);
  Ref intermediate(cudnnDataType_t type, const Dims& dims) {
    return intermediate(type, dims, dense_strides(dims));
  }
  Ref constant(float value, int rank);
  void add(DnnDescriptor operation);  // finalizes it
  Ref keep(DnnDescriptor finalized);  // what operations refer to, other than tensors

  const std::vector<Ref>& operations() const { return operations_; }
  int tensors() const { return tensors_; }
  const std::vector<std::pair<int64_t, float>>& constants() const { return constants_; }

 private:
  enum class Kind { memory, intermediate, constant };
  Ref make_tensor(int64_t uid, cudnnDataType_t type, const Dims& dims, const Dims& strides, Kind kind);

  int64_t alignment_;
  int tensors_ = 0;
  int64_t others_ = 0;
  std::vector<DnnDescriptor> kept_;
  std::vector<Ref> operations_;
  std::vector<std::pair<int64_t, float>> constants_;  // uid, value
};

// What a plan is made for: one of the two.
struct DnnTarget {
  cudnnHandle_t handle = nullptr;
  const DnnDescriptor* properties = nullptr;  // of a device
};
DnnDescriptor dnn_device_properties(const std::string& json);

// Which of the library's kernels may be taken.
struct DnnPolicy {
  bool nondeterministic = false;  // those that give other bits in the next run
  bool tensor_cores = false;      // of f32 inputs they take the upper 19 bits only (TF32)
};

class DnnPlan {
 public:
  DnnPlan(const DnnGraph& graph, DnnDescriptor plan, int64_t engine);

  int64_t workspace() const { return workspace_; }  // bytes
  int64_t engine() const { return engine_; }        // the library's number of it
  int tensors() const { return tensors_; }

  // Enqueues the graph on the handle's stream. Device pointers in the order of the graph's tensors.
  void execute(cudnnHandle_t handle, const std::vector<void*>& tensors, void* workspace) const;

 private:
  DnnDescriptor plan_;
  int64_t workspace_, engine_;
  int tensors_;
  std::vector<std::pair<int64_t, float>> constants_;
};

// The best plan by the library's heuristics, or the reason why there is none.
struct DnnSearch {
  std::optional<DnnPlan> plan;
  std::string reason;  // without a plan
  int candidates = 0;  // engine configurations that were looked at
};

// `build` adds the operations. Throws DnnFailure unless it is one that declines.
DnnSearch find_dnn_plan(const DnnTarget& target, const DnnPolicy& policy, int64_t alignment,
                        const std::function<void(DnnGraph&)>& build);

}  // namespace tandem::cuda
