// Streams, events and graphs as the runtime's C functions.
#include <algorithm>
#include <chrono>

#include "runtime/runtime.h"
#include "runtime/streams.h"

using namespace cudasim;

struct CUevent_st {
  Point recorded{nullptr, 0};  // done when the queue has come there
  bool timed = true;
  double milliseconds = 0;
  std::shared_ptr<Capture> capture;  // recorded while captured
  std::vector<uint32_t> nodes;
  Clock clock;
};
struct CUgraph_st {
  std::shared_ptr<Graph> graph;
};
struct CUgraphExec_st {
  std::shared_ptr<const Graph> graph;
};

namespace {

uint64_t waited = 0;

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool is_done(const CUevent_st& event) {
  return event.recorded.first == nullptr || event.recorded.first->done >= event.recorded.second;
}

// The queue of a call's stream, or the error that the call returns.
struct Checked {
  std::shared_ptr<Queue> queue;
  cudaError_t error = cudaSuccess;
};
Checked check(cudaStream_t stream) {
  if (const cudaError_t error = missing_device()) return {nullptr, error};
  if (const cudaError_t error = status()) return {nullptr, error};
  auto queue = queue_of(stream);
  if (queue == nullptr) return {nullptr, failed(cudaErrorInvalidResourceHandle)};
  return {std::move(queue), cudaSuccess};
}

void end_capture(const std::shared_ptr<Capture>& capture) {
  for (const auto& queue : all_queues()) {
    if (queue->capture != capture) continue;
    queue->capture.reset();
    queue->tail.clear();
  }
}

// Does the origin's end follow all that the other streams of the capture did?
bool joined(const Capture& capture) {
  const Graph& graph = *capture.graph;
  std::vector<uint8_t> reached(graph.nodes.size());
  std::vector<uint32_t> pending = capture.origin->tail;
  while (!pending.empty()) {
    const uint32_t node = pending.back();
    pending.pop_back();
    if (reached[node] != 0) continue;
    reached[node] = 1;
    pending.insert(pending.end(), graph.nodes[node].after.begin(), graph.nodes[node].after.end());
  }
  return std::all_of(all_queues().begin(), all_queues().end(), [&](const auto& queue) {
    return queue->capture.get() != &capture || std::all_of(queue->tail.begin(), queue->tail.end(),
                                                           [&](uint32_t node) { return reached[node] != 0; });
  });
}

unsigned long long captures = 0;

}  // namespace

uint64_t cudasim::waits() {
  const Lock lock(device_mutex());
  return waited;
}

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = status()) return error;
  if (stream == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0)
    return failed(cudaErrorInvalidValue);
  create_queue(stream, (flags & cudaStreamNonBlocking) == 0, priority);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (const cudaError_t error = missing_device()) return error;
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  const auto queue = queue_of(stream);
  if (queue == nullptr || queue->legacy || stream == cudaStreamPerThread)
    return failed(cudaErrorInvalidResourceHandle);
  if (queue->capture != nullptr) queue->capture->invalid = true;
  drain(*queue, queue->submitted);  // a real one returns at once, and finishes the work
  destroy_queue(stream);
  return status();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(device_mutex());
  ++waited;
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (c.queue->capture != nullptr) return refuse_in_capture(*c.queue);
  wait_for(*c.queue);
  return status();
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(device_mutex());
  ++waited;
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = forbidden_in_capture()) return error;
  synchronise_device();
  return status();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (c.queue->capture != nullptr) return refuse_in_capture(*c.queue);
  const bool done = c.queue->done >= c.queue->submitted;
  if (done) {
    wait_for(*c.queue);
  } else {
    make_progress();
  }
  return done ? status() : cudaErrorNotReady;
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error == cudaSuccess) *flags = c.queue->blocking ? cudaStreamDefault : cudaStreamNonBlocking;
  return c.error;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error == cudaSuccess) *priority = c.queue->priority;
  return c.error;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  return submit(stream, [=] { function(data); });
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = status()) return error;
  auto* created = new CUevent_st;
  created->timed = (flags & cudaEventDisableTiming) == 0;
  *event = created;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(device_mutex());
  if (event == nullptr) return failed(cudaErrorInvalidResourceHandle);
  if (event->recorded.first != nullptr)
    drain(*event->recorded.first, event->recorded.second);  // its work writes the time
  delete event;
  return status();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (event == nullptr) return failed(cudaErrorInvalidResourceHandle);
  if (c.queue->capture != nullptr) {
    event->capture = c.queue->capture;
    event->nodes = c.queue->tail;
    return cudaSuccess;
  }
  event->capture.reset();
  Work work;
  work.always = true;
  work.run = [event] { event->milliseconds = now(); };
  event->recorded = {c.queue, c.queue->submitted + 1};
  const cudaError_t error = submit_to(c.queue, std::move(work));
  event->clock = c.queue->clock;
  return error;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (event == nullptr) return failed(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) {
    if (c.queue->legacy) return failed(cudaErrorStreamCaptureImplicit);
    if (c.queue->capture == nullptr) {
      c.queue->capture = event->capture;  // the stream joins the capture
      c.queue->tail.clear();
    } else if (c.queue->capture != event->capture) {
      return failed(cudaErrorStreamCaptureMerge);
    }
    for (const uint32_t node : event->nodes) {
      if (std::find(c.queue->tail.begin(), c.queue->tail.end(), node) == c.queue->tail.end())
        c.queue->tail.push_back(node);
    }
    return cudaSuccess;
  }
  if (c.queue->capture != nullptr) {
    if (event->recorded.first == nullptr) return cudaSuccess;
    c.queue->capture->invalid = true;
    return failed(cudaErrorStreamCaptureIsolation);
  }
  if (event->recorded.first == nullptr) return cudaSuccess;
  Work work;
  work.always = true;
  work.run = [] {};
  work.after.push_back(event->recorded);
  work.before = event->clock;
  return submit_to(c.queue, std::move(work));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(device_mutex());
  ++waited;
  if (event == nullptr) return failed(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return failed(cudaErrorCapturedEvent);
  if (event->recorded.first != nullptr) drain(*event->recorded.first, event->recorded.second);
  merge(host_clock(), event->clock);
  return status();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(device_mutex());
  if (event == nullptr) return failed(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return failed(cudaErrorCapturedEvent);
  const bool done = is_done(*event);
  if (done) {
    merge(host_clock(), event->clock);
  } else {
    make_progress();
  }
  return done ? status() : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const Lock lock(device_mutex());
  if (from == nullptr || to == nullptr || !from->timed || !to->timed || from->recorded.first == nullptr ||
      to->recorded.first == nullptr) {
    return failed(cudaErrorInvalidResourceHandle);
  }
  if (!is_done(*from) || !is_done(*to)) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(to->milliseconds - from->milliseconds);
  return status();
}

// ---- capture and graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (c.queue->legacy) return failed(cudaErrorStreamCaptureUnsupported);
  if (c.queue->capture != nullptr) return failed(cudaErrorIllegalState);
  c.queue->capture = std::make_shared<Capture>();
  c.queue->capture->origin = c.queue.get();
  c.queue->capture->mode = mode;
  c.queue->capture->id = ++captures;
  c.queue->tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  const std::shared_ptr<Capture> capture = c.queue->capture;
  *graph = nullptr;
  if (capture == nullptr) return failed(cudaErrorIllegalState);
  if (capture->origin != c.queue.get()) {
    capture->invalid = true;
    return failed(cudaErrorStreamCaptureUnmatched);
  }
  const cudaError_t error = capture->invalid    ? cudaErrorStreamCaptureInvalidated
                            : !joined(*capture) ? cudaErrorStreamCaptureUnjoined
                                                : cudaSuccess;
  end_capture(capture);
  if (error != cudaSuccess) return failed(error);
  *graph = new CUgraph_st{capture->graph};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* state) {
  const Lock lock(device_mutex());
  const Checked c = check(stream);
  if (c.error != cudaSuccess) return c.error;
  if (c.queue->legacy && any_global_capture()) return failed(cudaErrorStreamCaptureImplicit);
  *state = c.queue->capture == nullptr ? cudaStreamCaptureStatusNone
           : c.queue->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = status()) return error;
  if (graph == nullptr) return failed(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->graph};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(device_mutex());
  if (executable == nullptr) return failed(cudaErrorInvalidValue);
  return submit(stream, runner_of(executable->graph));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return status(); }

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Lock lock(device_mutex());
  if (graph == nullptr || count == nullptr || nodes != nullptr)
    return failed(cudaErrorInvalidValue);  // only counts
  *count = graph->graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return status();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return status();
}
}
