#include "cuda/recording.h"

#include <utility>

#include "cuda/allocator.h"
#include "cuda/context.h"

namespace tandem::cuda {
namespace {

Allocator::Pool recording_pool = 0;  // of the recording that is being made; 0: none

class Graph final : public Recording {
 public:
  Graph(cudaGraphExec_t graph, Allocator::Pool pool) : graph_(graph), pool_(pool) {}
  ~Graph() override {
    cudaStreamSynchronize(stream());  // a replay may still use the memory
    cudaGraphExecDestroy(graph_);
    allocator().free_pool(pool_);
  }
  void replay() override { check(cudaGraphLaunch(graph_, stream()), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t graph_;
  Allocator::Pool pool_;
};

}  // namespace

void begin_recording() {
  tandem::check<DeviceError>(recording_pool == 0, "cuda: a recording is being made already");
  // Relaxed: the allocator may ask for memory meanwhile, which touches no stream.
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  recording_pool = allocator().begin_pool();
}

std::unique_ptr<Recording> end_recording() {
  const Allocator::Pool pool = std::exchange(recording_pool, 0);
  allocator().end_pool();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t status = cudaStreamEndCapture(stream(), &graph);
  const char* call = "cudaStreamEndCapture";
  if (status == cudaSuccess) {
    call = "cudaGraphInstantiate";
    status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
  }
  if (status != cudaSuccess) allocator().free_pool(pool);
  check(status, call);
  return std::make_unique<Graph>(executable, pool);
}

void cancel_recording() noexcept {
  if (recording_pool == 0) return;
  allocator().end_pool();
  allocator().free_pool(std::exchange(recording_pool, 0));
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream(), &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

}  // namespace tandem::cuda
