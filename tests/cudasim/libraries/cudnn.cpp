// The used subset of cuDNN: handles and the backend API. Statuses are those of the real library (9.19) where
// it was asked; what it takes but nothing here does is reported, and never succeeds.
#include <cudnn.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <utility>

#include "libraries/cudnn_count.h"
#include "libraries/cudnn_graph.h"
#include "sim.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace {

using namespace cudasim;

thread_local std::string last_error;
std::atomic<uint64_t> executions{0};
std::atomic<double> planning_seconds{0};
int graph_status = CUDNN_STATUS_SUCCESS, heuristics_status = CUDNN_STATUS_SUCCESS;

cudnnStatus_t failed(cudnnStatus_t status, std::string message) {
  last_error = std::move(message);
  return status;
}

cudnnStatus_t guarded(const std::function<void()>& body) {
  try {
    body();
    return CUDNN_STATUS_SUCCESS;
  } catch (const DnnError& error) {
    return failed(error.status, error.message);
  }
}

Descriptor& node_of(cudnnBackendDescriptor_t descriptor) {
  if (!descriptor) dnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the descriptor is null");
  return *static_cast<DescriptorHandle*>(descriptor)->node;
}

void set(Descriptor& d, cudnnBackendAttributeName_t name, const Node& child) {
  d.attributes[name] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {child}};
}
template <class T>
void set(Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
         const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  d.attributes[name] = {
      type, static_cast<int64_t>(values.size()), {bytes, bytes + values.size() * sizeof(T)}, {}};
}

// The graph that heuristics, configurations, engines and plans are about.
Node graph_of(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return d.child(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      return d.child(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
      return graph_of(*d.child(CUDNN_ATTR_ENGINECFG_ENGINE));
    default:
      return graph_of(*d.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
  }
}
DnnEngine engine_of(const Descriptor& plan) {
  const auto index = plan.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                         ->child(CUDNN_ATTR_ENGINECFG_ENGINE)
                         ->value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, -1);
  for (const DnnEngine& engine : engines_for(*graph_of(plan))) {
    if (engine.index == index) return engine;
  }
  dnn_fail(CUDNN_STATUS_INTERNAL_ERROR, "no such engine");
}

bool is_fallback(const Descriptor& heuristics) {
  return heuristics.value(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A) != CUDNN_HEUR_MODE_A;
}

// The results of heuristics: each a configuration of one engine. All are of the first mode, unless that was
// made to fail.
std::vector<Node> configurations(const Descriptor& heuristics) {
  std::vector<Node> all;
  if (is_fallback(heuristics) && heuristics_status == CUDNN_STATUS_SUCCESS) return all;
  const Node graph = graph_of(heuristics);
  for (const DnnEngine& made : engines_for(*graph)) {
    const Node engine = make_descriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    set(*engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set(*engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, std::vector<int64_t>{made.index});
    set(*engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, made.notes);
    const Node configuration = make_descriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set(*configuration, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    engine->finalized = configuration->finalized = true;
    all.push_back(configuration);
  }
  return all;
}

void decline_as_asked(const Descriptor& d) {
  const int status = d.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR ? graph_status
                     : d.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && !is_fallback(d)
                         ? heuristics_status
                         : CUDNN_STATUS_SUCCESS;
  if (status != CUDNN_STATUS_SUCCESS) dnn_fail(static_cast<cudnnStatus_t>(status), "as was asked for");
}

void finalize_plan(Descriptor& plan) {
  dnn_check(plan.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
            "execution plan: an engine configuration is expected");
  const DnnEngine engine = engine_of(plan);
  if (!engine.builds) dnn_fail(CUDNN_STATUS_NOT_SUPPORTED, "this engine does not do after all");
  set(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
      std::vector<int64_t>{workspace_of(*graph_of(plan), engine) + dnn_workspace()});
  planning_seconds += planning_seconds_of(kind_of(*graph_of(plan)));
}

void check_pointer(const DnnTensor& t, const void* pointer) {
  const std::string who = "cudnnBackendExecute: tensor " + std::to_string(t.uid);
  dnn_check(pointer != nullptr, who + " is null");
  if (is_device_pointer(pointer) == t.by_value) {
    report(t.by_value ? "host pointer expected" : "host pointer",
           who + (t.by_value ? ", by value, is on the device" : " is not on the device"));
    dnn_fail(CUDNN_STATUS_BAD_PARAM, who + " is in the wrong memory");
  }
  // An engine of the real library reads vectors of 16 bytes, whatever less is stated.
  const auto alignment = std::max<int64_t>(t.alignment, 16);
  if (!t.by_value && reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(alignment) != 0) {
    report("misaligned", who + " is not aligned to " + std::to_string(alignment) + " bytes");
    dnn_fail(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, who);
  }
}

void execute(cudnnHandle_t handle, const Descriptor& plan, const Descriptor& pack) {
  if (!handle) dnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
  if (dnn_refuses()) dnn_fail(CUDNN_STATUS_BAD_PARAM, "as was asked for");
  dnn_check(plan.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && plan.finalized, "a plan is expected");
  dnn_check(pack.type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR && pack.finalized,
            "a variant pack is expected");
  DnnExecution run{graph_of(plan), engine_of(plan), {}, {}};
  const auto uids = pack.values<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.values<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (size_t i = 0; i < uids.size(); ++i) run.pointers[uids[i]] = pointers[i];
  for (const DnnTensor& t : outside_tensors(*run.graph)) {
    const auto found = run.pointers.find(t.uid);
    dnn_check(found != run.pointers.end(), "tensor " + std::to_string(t.uid) + " is not in the variant pack");
    check_pointer(t, found->second);
    if (t.by_value) run.constants[t.uid] = double{*static_cast<const float*>(found->second)};
  }
  const auto bytes = static_cast<size_t>(plan.value<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 0));
  void* workspace = pack.value<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
  dnn_check(workspace != nullptr, "the plan needs a workspace of " + std::to_string(bytes) + " bytes");
  const cudaError_t status = enqueue(handle->stream, "cudnnBackendExecute", [run, workspace, bytes] {
    std::memset(check_write(workspace, bytes, "cudnnBackendExecute: workspace"), 0xa5, bytes);
    mark_uninitialised(workspace, bytes);
    try {
      execute_graph(run);
    } catch (const DnnError&) {
      // was reported when it was thrown
    }
  });
  if (status != cudaSuccess) dnn_fail(CUDNN_STATUS_EXECUTION_FAILED_CUDART, cudaGetErrorString(status));
  ++executions;
}

}  // namespace

uint64_t cudasim::dnn_executions() { return executions; }
double cudasim::dnn_planning_seconds() { return planning_seconds; }

bool& cudasim::dnn_refuses() {
  static bool refuses = false;
  return refuses;
}

bool& cudasim::dnn_fuses_bias() {
  static bool fuses = true;
  return fuses;
}

int64_t& cudasim::dnn_workspace() {
  static int64_t bytes = 0;
  return bytes;
}

extern "C" {

void cudasim_dnn_workspace(int64_t bytes) { dnn_workspace() = bytes; }
void cudasim_dnn_graph_status(int status) { graph_status = status; }
void cudasim_dnn_heuristics_status(int status) { heuristics_status = status; }

size_t cudnnGetVersion() { return CUDNN_VERSION; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_NULL_POINTER:
      return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER:
      return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED:
      return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH:
      return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES:
      return "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES";
    case CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE:
      return "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR:
      return "CUDNN_STATUS_INTERNAL_ERROR";
    case CUDNN_STATUS_EXECUTION_FAILED_CUDART:
      return "CUDNN_STATUS_EXECUTION_FAILED_CUDART";
    default:
      return "an unknown cudnnStatus_t";
  }
}

void cudnnGetLastErrorString(char* message, size_t max_size) {
  if (!message || max_size == 0) return;
  const size_t length = std::min(last_error.size(), max_size - 1);
  std::memcpy(message, last_error.data(), length);
  message[length] = 0;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (!handle) return failed(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0)
    return failed(CUDNN_STATUS_NOT_INITIALIZED, "there is no device");
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (!handle) return failed(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  return guarded([&] { *descriptor = new DescriptorHandle{make_descriptor(type)}; });
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete static_cast<DescriptorHandle*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  return guarded([&] { set_attribute(node_of(descriptor), name, type, count, values); });
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return guarded([&] {
    Descriptor& d = node_of(descriptor);
    check_required(d);
    check_descriptor(d);
    decline_as_asked(d);
    if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) finalize_plan(d);
    if (d.type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
      dnn_check(d.attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count ==
                    d.attributes.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count,
                "variant pack: as many pointers as uids are expected");
    }
    d.finalized = true;
  });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                                       void* values) {
  return guarded([&] {
    const Descriptor& d = node_of(descriptor);
    int64_t found = 0;
    if (d.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
      if (!d.finalized) dnn_fail(CUDNN_STATUS_NOT_INITIALIZED, "heuristics: not finalized");
      const std::vector<Node> all = configurations(d);
      found = std::ssize(all);
      for (int64_t i = 0; values && i < std::min(requested, found); ++i)
        static_cast<DescriptorHandle* const*>(values)[i]->node = all[i];
      if (!values && found) found += 3;  // without descriptors it tells the most that there may be
    } else {
      found = get_attribute(d, name, type, requested, values);
    }
    if (count) *count = found;
  });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  return guarded([&] { execute(handle, node_of(plan), node_of(pack)); });
}

}  // extern "C"
