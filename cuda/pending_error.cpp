#include "cuda/pending_error.h"

#include "cuda/context.h"

namespace tandem::cuda {
namespace {

struct Slot {
  PendingError* on_device = nullptr;
  PendingError* seen = nullptr;  // in pinned memory
  Slot() {
    check(cudaMalloc(reinterpret_cast<void**>(&on_device), sizeof(PendingError)), "cudaMalloc");
    check(cudaMallocHost(reinterpret_cast<void**>(&seen), sizeof(PendingError)), "cudaMallocHost");
    clear();
  }
  void clear() {
    check(cudaMemsetAsync(on_device, 0, sizeof(PendingError), stream()), "cudaMemsetAsync");
    *seen = {};
  }
};

// Made at the first use, which is not within a recording: CudaBackend::begin_recording.
Slot& slot() {
  static Slot* instance = new Slot;
  return *instance;
}

}  // namespace

PendingError* pending_error() { return slot().on_device; }

void synchronize() {
  Slot& errors = slot();
  check(
      cudaMemcpyAsync(errors.seen, errors.on_device, sizeof(PendingError), cudaMemcpyDeviceToHost, stream()),
      "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  if (!errors.seen->raise) return;
  const PendingError error = *errors.seen;
  errors.clear();
  error.raise(error);
}

}  // namespace tandem::cuda
