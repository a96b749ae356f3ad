#include "runtime/streams.h"

#include <algorithm>
#include <map>

#include "ptx/interpreter.h"
#include "runtime/random.h"
#include "runtime/runtime.h"

namespace cudasim {
namespace {

struct Streams {
  std::vector<std::shared_ptr<Queue>> queues;
  std::map<cudaStream_t, std::shared_ptr<Queue>> by_handle;
  Random random;
  uint64_t seed = ~uint64_t{0};
  std::vector<std::pair<size_t, uint64_t>> free_indices;  // of destroyed queues, and how far they had counted

  Streams() {
    auto legacy = std::make_shared<Queue>();
    legacy->legacy = true;
    auto per_thread = std::make_shared<Queue>();
    per_thread->index = 1;
    queues = {legacy, per_thread};
    by_handle = {{nullptr, legacy}, {cudaStreamLegacy, legacy}, {cudaStreamPerThread, per_thread}};
  }

  uint32_t draw() {
    if (seed != options().seed) random.seed(seed = options().seed);
    return random();
  }
};

Streams& streams() {
  static auto& instance = *new Streams;
  return instance;
}

bool can_run(const Queue& queue) {
  if (queue.work.empty()) return false;
  return std::all_of(queue.work.front().after.begin(), queue.work.front().after.end(),
                     [](const Point& p) { return p.first->done >= p.second; });
}

void run_front(Queue& queue) {
  const Work work = std::move(queue.work.front());
  queue.work.pop_front();
  if (work.always || sticky_error() == cudaSuccess) {
    begin_work(queue.index, work.number, work.before);
    try {
      work.run();
    } catch (const LaunchAborted&) {
      // It was reported, and the device has an error since.
    }
  }
  queue.done = work.number;
}

Queue* runnable_queue() {
  std::vector<Queue*> candidates;
  for (const auto& queue : streams().queues) {
    if (can_run(*queue)) candidates.push_back(queue.get());
  }
  if (candidates.empty()) return nullptr;
  return options().deferred ? candidates[streams().draw() % candidates.size()] : candidates[0];
}

}  // namespace

std::vector<std::shared_ptr<Queue>>& all_queues() { return streams().queues; }

std::shared_ptr<Queue> queue_of(cudaStream_t stream) {
  const auto it = streams().by_handle.find(stream);
  return it == streams().by_handle.end() ? nullptr : it->second;
}

std::shared_ptr<Queue> create_queue(cudaStream_t* stream, bool blocking, int priority) {
  auto queue = std::make_shared<Queue>();
  queue->blocking = blocking;
  queue->priority = priority;
  Streams& s = streams();
  if (s.free_indices.empty()) {
    queue->index = s.queues.size();
  } else {
    queue->index = s.free_indices.back().first;
    queue->submitted = queue->done = s.free_indices.back().second;
    s.free_indices.pop_back();
  }
  *stream = reinterpret_cast<cudaStream_t>(queue.get());
  streams().queues.push_back(queue);
  streams().by_handle[*stream] = queue;
  return queue;
}

void destroy_queue(cudaStream_t stream) {
  const auto queue = queue_of(stream);
  merge(host_clock(), queue->clock);  // it was waited for
  streams().free_indices.emplace_back(queue->index, queue->submitted);
  std::erase(streams().queues, queue);
  streams().by_handle.erase(stream);
}

void drain(Queue& queue, uint64_t number) {
  while (queue.done < number) {
    Queue* next = nullptr;
    if (options().deferred) {
      next = runnable_queue();
    } else {
      next = can_run(queue) ? &queue : runnable_queue();
    }
    if (next == nullptr)
      return;  // waits for work that was never submitted: the caller's error shows elsewhere
    run_front(*next);
  }
}

void make_progress() {
  if (Queue* next = runnable_queue()) run_front(*next);
}

cudaError_t submit_to(const std::shared_ptr<Queue>& queue, Work work) {
  if (queue->capture != nullptr) {
    if (queue->capture->invalid) return failed(cudaErrorStreamCaptureInvalidated);
    Graph& graph = *queue->capture->graph;
    graph.nodes.push_back({std::move(work.run), queue->tail});
    queue->tail = {static_cast<uint32_t>(graph.nodes.size() - 1)};
    return cudaSuccess;
  }
  if (queue->legacy || queue->blocking) {
    for (const auto& other : all_queues()) {
      if (other == queue || !(queue->legacy ? other->blocking : other->legacy)) continue;
      if (other->capture != nullptr && queue->legacy) {  // work that a captured stream would have to wait for
        other->capture->invalid = true;
        return failed(cudaErrorStreamCaptureImplicit);
      }
      merge(work.before, other->clock);
      if (other->done < other->submitted) work.after.emplace_back(other, other->submitted);
    }
  }
  work.number = ++queue->submitted;
  merge(work.before, host_clock());
  merge(work.before, queue->clock);
  queue->clock = work.before;
  if (queue->clock.size() <= queue->index) queue->clock.resize(queue->index + 1);
  queue->clock[queue->index] = work.number;
  queue->work.push_back(std::move(work));
  if (!options().deferred) drain(*queue, queue->submitted);
  return cudaSuccess;
}

cudaError_t submit(cudaStream_t stream, std::function<void()> work) {
  if (const cudaError_t error = status()) return error;
  const auto queue = queue_of(stream);
  if (queue == nullptr) return failed(cudaErrorInvalidResourceHandle);
  Work item;
  item.run = std::move(work);
  return submit_to(queue, std::move(item));
}

cudaError_t submit_beside_capture(cudaStream_t stream, std::function<void()> work) {
  const auto queue = queue_of(stream);
  if (queue == nullptr) return failed(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = std::exchange(queue->capture, nullptr);
  const cudaError_t error = submit(stream, std::move(work));
  queue->capture = capture;
  return error;
}

unsigned long long capture_of(cudaStream_t stream) {
  const auto queue = queue_of(stream);
  return queue == nullptr || queue->capture == nullptr ? 0 : queue->capture->id;
}

cudaError_t enqueue(cudaStream_t stream, const char* who, std::function<void()> work) {
  const Lock lock(device_mutex());
  return submit(stream, [who = std::string(who), work = std::move(work)] {
    try {
      name_work(who);
      work();
    } catch (const std::exception& error) {
      report("library", who + ": " + error.what());
      throw LaunchAborted{};
    }
  });
}

void wait_for(Queue& queue) {
  drain(queue, queue.submitted);
  merge(host_clock(), queue.clock);
}

void synchronise_stream(cudaStream_t stream) {
  if (const auto queue = queue_of(stream)) wait_for(*queue);
}

void synchronise_device() {
  for (size_t i = 0; i < all_queues().size(); ++i) {
    const auto queue = all_queues()[i];
    wait_for(*queue);
  }
}

bool is_capturing(cudaStream_t stream) {
  const auto queue = queue_of(stream);
  return queue != nullptr && queue->capture != nullptr;
}

bool any_global_capture() {
  return std::any_of(all_queues().begin(), all_queues().end(), [](const auto& queue) {
    return queue->capture != nullptr && queue->capture->mode != cudaStreamCaptureModeRelaxed;
  });
}

cudaError_t refuse_in_capture(Queue& queue) {
  queue.capture->invalid = true;
  return failed(cudaErrorStreamCaptureUnsupported);
}

cudaError_t forbidden_in_capture() {
  if (!any_global_capture()) return cudaSuccess;
  for (const auto& queue : all_queues()) {
    if (queue->capture != nullptr) queue->capture->invalid = true;
  }
  return failed(cudaErrorStreamCaptureUnsupported);
}

// A graph's nodes in an order that its dependencies allow: any of them where the order is random.
std::function<void()> runner_of(std::shared_ptr<const Graph> graph) {
  return [graph = std::move(graph)] {
    const bool random = options().deferred || options().order == Order::random;
    std::vector<uint8_t> done(graph->nodes.size());
    std::vector<uint32_t> ready;
    for (size_t count = 0; count < graph->nodes.size(); ++count) {
      ready.clear();
      for (uint32_t i = 0; i < graph->nodes.size() && (random || ready.empty()); ++i) {
        const auto& after = graph->nodes[i].after;
        if (done[i] == 0 && std::all_of(after.begin(), after.end(), [&](uint32_t n) { return done[n] != 0; }))
          ready.push_back(i);
      }
      const uint32_t next = ready[random ? streams().draw() % ready.size() : 0];
      graph->nodes[next].run();
      done[next] = 1;
      if (sticky_error() != cudaSuccess) return;
    }
  };
}

}  // namespace cudasim
