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
};

Staging& staging();

}  // namespace tandem::cuda
