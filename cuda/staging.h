// Pinned host memory that copies to the device go through, so that the host need not wait for them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <mutex>
#include <vector>

namespace tandem::cuda {

class Staging {
 public:
  // Copies `bytes` of host memory to the device in `to`; the host's memory may be changed as soon as it
  // returns.
  void copy(void* device, const void* host, int64_t bytes, cudaStream_t to);

  // The same in a stream of its own: after the work that the compute stream was given until now, beside what
  // it is given later, until it is told to wait for all uploads.
  void upload(void* device, const void* host, int64_t bytes);
  void await_uploads();

 private:
  struct Block {
    void* data;
    int64_t size;
    cudaEvent_t done;
    bool recorded;  // by a step that is replayed: it is read at every replay, so never used again
  };
  Block& block(int64_t bytes);

  std::mutex mutex_;
  std::vector<Block> blocks_;
  cudaStream_t uploads_ = nullptr;
  cudaEvent_t given_ = nullptr, uploaded_ = nullptr;
};

Staging& staging();

}  // namespace tandem::cuda
