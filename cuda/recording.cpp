#include "cuda/recording.h"

#include <utility>
#include <vector>

#include "cuda/allocator.h"
#include "cuda/context.h"
#include "cuda/staging.h"

namespace tandem::cuda {
namespace {

// The memory of recordings that share it.
struct Pool {
  const Allocator::Pool id = allocator().make_pool();
  ~Pool() { allocator().free_pool(id); }
};

std::shared_ptr<Pool> current;  // of the recording that is being made

class Graph final : public Recording {
 public:
  Graph(cudaGraphExec_t graph, std::shared_ptr<Pool> memory, Staging::Blocks read)
      : graph_(graph), memory_(std::move(memory)), read_(std::move(read)) {}
  ~Graph() override {
    cudaStreamSynchronize(stream());  // a replay may still use the memory
    cudaGraphExecDestroy(graph_);
    staging().give_back(std::move(read_));
  }
  void replay() override { check(cudaGraphLaunch(graph_, stream()), "cudaGraphLaunch"); }
  const std::shared_ptr<Pool>& memory() const { return memory_; }

 private:
  cudaGraphExec_t graph_;
  std::shared_ptr<Pool> memory_;
  Staging::Blocks read_;  // pinned memory that every replay copies from
};

}  // namespace

void begin_recording(const Recording* like) {
  tandem::check<DeviceError>(!current, "cuda: a recording is being made already");
  allocator().release_cached();  // what steps before have left there is what this one needs
  auto memory = like ? static_cast<const Graph*>(like)->memory() : std::make_shared<Pool>();
  // Relaxed: the allocator may ask for memory meanwhile, which touches no stream.
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  current = std::move(memory);
  allocator().begin_pool(current->id);
}

std::unique_ptr<Recording> end_recording() {
  auto memory = std::exchange(current, {});
  allocator().end_pool();
  Staging::Blocks read = staging().take_recorded();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t status = cudaStreamEndCapture(stream(), &graph);
  const char* call = "cudaStreamEndCapture";
  if (status == cudaSuccess) {
    call = "cudaGraphInstantiate";
    status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
  }
  if (status != cudaSuccess) staging().give_back(std::move(read));
  check(status, call);
  return std::make_unique<Graph>(executable, std::move(memory), std::move(read));
}

void cancel_recording() noexcept {
  if (!current) return;
  current.reset();
  allocator().end_pool();
  staging().give_back(staging().take_recorded());
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream(), &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

}  // namespace tandem::cuda
