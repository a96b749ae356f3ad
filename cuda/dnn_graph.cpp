#include "cuda/dnn_graph.h"

#include <algorithm>

namespace tandem::cuda {
namespace {

std::string describe(cudnnStatus_t status, const std::string& call) {
  char words[1024] = "";
  cudnnGetLastErrorString(words, sizeof words);
  std::string text = call + " returned " + cudnnGetErrorString(status);
  return *words ? text + ": " + words : text;
}

int64_t bytes_of(cudnnDataType_t type) {
  return type == CUDNN_DATA_DOUBLE ? 8 : type == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

// Numbers of tensors that have no place among the pointers.
constexpr int64_t kOthers = int64_t{1} << 32;

// A descriptor type's descriptors of one attribute.
std::vector<DnnDescriptor> children(const DnnDescriptor& parent, DnnDescriptor::Name name,
                                    cudnnBackendDescriptorType_t type) {
  int64_t count = parent.get(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
  std::vector<DnnDescriptor> found;
  std::vector<DnnDescriptor::Raw> raw;
  for (int64_t i = 0; i < count; ++i) raw.push_back(found.emplace_back(type).raw());
  if (count) count = parent.get(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, raw.data());
  while (std::ssize(found) > count)
    found.pop_back();  // asked without descriptors, it tells the most there may be
  return found;
}

// Why the policy excludes an engine; empty if it does not.
std::string excluded(const DnnDescriptor& engine, const DnnPolicy& policy) {
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  const int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                   CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes);
  auto has = [&](cudnnBackendNumericalNote_t note) {
    return std::find(notes, notes + count, note) != notes + count;
  };
  if (!policy.nondeterministic && has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return "not deterministic";
  if (has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return "adds in less than f32";
  const auto transforms = {CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_WINOGRAD,
                           CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
                           CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13};
  if (!policy.tensor_cores && std::any_of(transforms.begin(), transforms.end(), has))
    return "loses digits to its transform";
  if (!policy.tensor_cores &&
      (has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) || has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE)))
    return "rounds its inputs to TF32";
  return {};
}

// The engine configurations that the library proposes in a mode; none, and why, where it declines to.
std::vector<DnnDescriptor> proposals(const DnnDescriptor& operations, const DnnTarget& target,
                                     cudnnBackendHeurMode_t mode, std::string& reason) {
  try {
    DnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations.raw());
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
    if (target.properties) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target.properties->raw());
    heuristics.finalize("heuristics");
    return children(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  } catch (const DnnFailure& failure) {
    if (!failure.declined()) throw;
    reason = failure.what();
    return {};
  }
}

void find(const DnnGraph& graph, const DnnTarget& target, const DnnPolicy& policy, DnnSearch& search) {
  DnnDescriptor operations(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  operations.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, graph.operations());
  if (target.handle) operations.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, target.handle);
  operations.finalize("operation graph");
  search.reason = "the library proposes no engine";
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const DnnDescriptor& configuration : proposals(operations, target, mode, search.reason)) {
      ++search.candidates;
      try {
        const auto engines =
            children(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        const std::string reason = excluded(engines.at(0), policy);
        if (!reason.empty()) {
          search.reason = reason;
          continue;
        }
        DnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        if (target.handle) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, target.handle);
        if (target.properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target.properties->raw());
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration.raw()).finalize("execution plan");
        search.plan.emplace(graph, std::move(plan), engines[0].get_int(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
        search.reason.clear();
        return;
      } catch (const DnnFailure& failure) {  // to compile it, say; the next one may do
        search.reason = failure.what();
      }
    }
  }
}

}  // namespace

DnnFailure::DnnFailure(cudnnStatus_t status, const std::string& call)
    : std::runtime_error(describe(status, call)), status(status) {}

void check_dnn(cudnnStatus_t status, const char* call, const std::string& of) {
  if (status != CUDNN_STATUS_SUCCESS) [[unlikely]]
    throw DnnFailure(status, of.empty() ? call : call + ("(" + of + ")"));
}

DnnDescriptor::DnnDescriptor(cudnnBackendDescriptorType_t type) {
  check_dnn(cudnnBackendCreateDescriptor(type, &raw_), "cudnnBackendCreateDescriptor", std::to_string(type));
}

DnnDescriptor::~DnnDescriptor() {
  if (raw_) cudnnBackendDestroyDescriptor(raw_);
}

DnnDescriptor&& DnnDescriptor::set(Name name, cudnnBackendAttributeType_t type, size_t count,
                                   const void* values) {
  check_dnn(cudnnBackendSetAttribute(raw_, name, type, static_cast<int64_t>(count), values),
            "cudnnBackendSetAttribute", std::to_string(name));
  return std::move(*this);
}

DnnDescriptor&& DnnDescriptor::finalize(const char* what) {
  check_dnn(cudnnBackendFinalize(raw_), "cudnnBackendFinalize", what);
  return std::move(*this);
}

int64_t DnnDescriptor::get(Name name, cudnnBackendAttributeType_t type, int64_t count, void* values) const {
  int64_t found = 0;
  check_dnn(cudnnBackendGetAttribute(raw_, name, type, count, &found, values), "cudnnBackendGetAttribute",
            std::to_string(name));
  return found;
}

int64_t DnnDescriptor::get_int(Name name) const {
  int64_t value = 0;
  get(name, CUDNN_TYPE_INT64, 1, &value);
  return value;
}

Dims dense_strides(const Dims& dims) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

DnnGraph::Ref DnnGraph::make_tensor(int64_t uid, cudnnDataType_t type, const Dims& dims, const Dims& strides,
                                    Kind kind) {
  DnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
      .set(CUDNN_ATTR_TENSOR_STRIDES, strides)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
           kind == Kind::memory ? std::max(alignment_, bytes_of(type)) : int64_t{16});
  if (kind == Kind::intermediate) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  if (kind == Kind::constant) tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  return keep(tensor.finalize("tensor"));
}

DnnGraph::Ref DnnGraph::tensor(cudnnDataType_t type, const Dims& dims, const Dims& strides) {
  return make_tensor(++tensors_, type, dims, strides, Kind::memory);
}

DnnGraph::Ref DnnGraph::intermediate(cudnnDataType_t type, const Dims& dims, const Dims& strides) {
  return make_tensor(kOthers + ++others_, type, dims, strides, Kind::intermediate);
}

DnnGraph::Ref DnnGraph::constant(float value, int rank) {
  const Dims ones(static_cast<size_t>(rank), 1);
  constants_.emplace_back(kOthers + ++others_, value);
  return make_tensor(constants_.back().first, CUDNN_DATA_FLOAT, ones, ones, Kind::constant);
}

void DnnGraph::add(DnnDescriptor operation) {
  operation.finalize("operation");
  operations_.push_back(keep(std::move(operation)));
}

DnnGraph::Ref DnnGraph::keep(DnnDescriptor finalized) {
  return kept_.emplace_back(std::move(finalized)).raw();
}

DnnDescriptor dnn_device_properties(const std::string& json) {
  return DnnDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
      .set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, std::vector<char>(json.begin(), json.end()))
      .finalize("device properties");
}

DnnPlan::DnnPlan(const DnnGraph& graph, DnnDescriptor plan, int64_t engine)
    : plan_(std::move(plan)),
      workspace_(plan_.get_int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)),
      engine_(engine),
      tensors_(graph.tensors()),
      constants_(graph.constants()) {}

void DnnPlan::execute(cudnnHandle_t handle, const std::vector<void*>& tensors, void* workspace) const {
  if (static_cast<int>(tensors.size()) != tensors_)
    throw std::invalid_argument("DnnPlan::execute: " + std::to_string(tensors.size()) + " pointers for " +
                                std::to_string(tensors_) + " tensors");
  std::vector<int64_t> uids;
  std::vector<const void*> pointers(tensors.begin(), tensors.end());
  for (int64_t uid = 1; uid <= tensors_; ++uid) uids.push_back(uid);
  for (const auto& [uid, value] : constants_) uids.push_back(uid), pointers.push_back(&value);
  DnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, uids)
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.size(), pointers.data())
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace)
      .finalize("variant pack");
  check_dnn(cudnnBackendExecute(handle, plan_.raw(), pack.raw()), "cudnnBackendExecute");
}

DnnSearch find_dnn_plan(const DnnTarget& target, const DnnPolicy& policy, int64_t alignment,
                        const std::function<void(DnnGraph&)>& build) {
  DnnSearch search;
  try {
    DnnGraph graph(alignment);
    build(graph);
    find(graph, target, policy, search);
  } catch (const DnnFailure& failure) {
    if (!failure.declined()) throw;
    search.reason = failure.what();
  }
  return search;
}

}  // namespace tandem::cuda
