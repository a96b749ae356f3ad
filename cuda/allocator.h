// The caching allocator of the device. It is stream-ordered: a block that the host has released may be handed
// out again at once, since whatever still uses it comes earlier in the one compute stream.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <unordered_map>

#include "autograd/device.h"

namespace tandem::cuda {

class Allocator {
 public:
  void* allocate(int64_t bytes);  // aligned to 256 bytes; OutOfMemoryError when the device has no more
  void release(void* data, int64_t bytes) noexcept;
  MemoryStats stats() const;
  void reset_peak();
  void release_cached();  // waits for the device

  // A recorded step writes to its blocks at every replay, so they are no other work's for as long as it
  // lives: what is allocated between begin_pool and end_pool comes from, and goes back to, a pool of its own,
  // or of recordings that never run at the same time.
  using Pool = int;
  Pool make_pool();
  void begin_pool(Pool pool);
  void end_pool();
  void free_pool(Pool pool);  // its free blocks, and those in use once they are released, become common again

 private:
  using Bin = std::multimap<int64_t, void*>;  // free blocks by size
  void* take(Bin& bin, int64_t size);
  void* from_device(int64_t size);
  void free_bin(Bin& bin);
  [[noreturn]] void out_of_memory(int64_t bytes) const;

  mutable std::mutex mutex_;
  std::map<Pool, Bin> bins_;               // pool 0 is the common one
  std::unordered_map<void*, Pool> owner_;  // of blocks that belong to a pool other than 0
  Pool current_ = 0, made_ = 0;
  MemoryStats stats_;
};

Allocator& allocator();

// What checks accesses to memory learns here which blocks are in use, and for how many of their bytes.
// Defined in a module that is linked with such a checker (tests/cudasim/block_hooks.cpp), null in the
// released one; hidden, so that nothing else in the process can stand in for them.
[[gnu::weak, gnu::visibility("hidden")]] void block_acquired(void* block, size_t bytes, cudaStream_t stream);
[[gnu::weak, gnu::visibility("hidden")]] void block_released(void* block, cudaStream_t stream);

}  // namespace tandem::cuda
