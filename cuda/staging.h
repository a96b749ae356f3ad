// Pinned host memory that copies to the device go through, so that the host need not wait for them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <mutex>
#include <utility>
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
  // The device's block is about to have another use: an upload to it that nothing waited for is waited for.
  void before_reuse(const void* device, int64_t bytes);

  struct Block {
    void* data;
    int64_t size;
    cudaEvent_t done;
  };
  using Blocks = std::vector<Block>;
  // What copies were recorded from since the last time: a replay reads it again, so it is the recording's.
  Blocks take_recorded();
  void give_back(Blocks blocks);

 private:
  void copy_piece(void* device, const void* host, int64_t bytes, cudaStream_t to);
  Block take_block(int64_t bytes);

  std::mutex mutex_;
  Blocks blocks_, recorded_;
  int64_t pinned_ = 0;                                      // bytes of all blocks ever made
  std::vector<std::pair<const char*, int64_t>> under_way_;  // where uploads go that nothing waits for yet
  cudaStream_t uploads_ = nullptr;
  cudaEvent_t given_ = nullptr, uploaded_ = nullptr;
};

Staging& staging();

}  // namespace tandem::cuda
