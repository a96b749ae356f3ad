// Streams as queues of work, events, and the capture of work into graphs.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/stream_order.h"

namespace cudasim {

struct Queue;
using Point = std::pair<std::shared_ptr<Queue>, uint64_t>;  // the n-th work of a stream

struct Work {
  std::function<void()> run;
  bool always = false;  // also after the device has failed (events)
  std::vector<Point> after;
  Clock before;  // what it comes after
  uint64_t number = 0;
};

struct Graph {
  struct Node {
    std::function<void()> run;
    std::vector<uint32_t> after;  // nodes before this one
  };
  std::vector<Node> nodes;
};

struct Capture {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  Queue* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool invalid = false;
  unsigned long long id = 0;
};

struct Queue {
  std::deque<Work> work;
  size_t index = 0;  // in clocks
  Clock clock;       // of the work that was submitted last
  uint64_t submitted = 0, done = 0;
  bool blocking = true;  // ordered with the legacy stream
  bool legacy = false;
  int priority = 0;
  std::shared_ptr<Capture> capture;
  std::vector<uint32_t> tail;  // nodes that its next one follows
};

// The queue of a handle; nullptr if there is no such stream.
std::shared_ptr<Queue> queue_of(cudaStream_t stream);
std::shared_ptr<Queue> create_queue(cudaStream_t* stream, bool blocking, int priority);
void destroy_queue(cudaStream_t stream);
std::vector<std::shared_ptr<Queue>>& all_queues();

// Puts work on a queue, or into the graph that it is captured into.
cudaError_t submit_to(const std::shared_ptr<Queue>& queue, Work work);
// Runs what there is until the queue's work of that number is done.
void drain(Queue& queue, uint64_t number);
// The host waits for all work of a queue.
void wait_for(Queue& queue);
// Runs one piece of work, if any can run: time passes.
void make_progress();

// Ends or forbids what must not happen during a capture: marks captures as failed and returns the error.
cudaError_t refuse_in_capture(Queue& queue);
bool any_global_capture();
std::function<void()> runner_of(std::shared_ptr<const Graph> graph);

}  // namespace cudasim
