// The CUDA device of this process: its streams, its memory, and the one way errors of CUDA become ours.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tandem::cuda {

// All kernels and library calls go to this stream, in the order in which the host asks for them.
cudaStream_t stream();

// DeviceError naming the call, CUDA's own words and the running op, unless the status is a success.
void check(cudaError_t status, const char* call);
const cudaDeviceProp& properties();

// Memory of the caching allocator for the time of one call; its contents may be read by work that was given
// to stream() before it is released. Aligned to 256 bytes.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T> T* as() const { return static_cast<T*>(data_); }

 private:
  void* data_;
  int64_t bytes_;
};

}  // namespace tandem::cuda
