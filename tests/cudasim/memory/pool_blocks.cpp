// An allocator that keeps freed memory for later tells here which of its blocks are in use, and for how many
// bytes: otherwise an access behind a tensor's end, or to a tensor that is gone, would be one to the
// allocator's memory.
#include "memory/pool_blocks.h"

#include <map>

#include "memory/device_memory.h"
#include "ptx/interpreter.h"
#include "runtime/runtime.h"

namespace cudasim {
namespace {

// By block, the capture in which it was acquired last.
std::map<void*, unsigned long long>& captures() {
  static auto& instance = *new std::map<void*, unsigned long long>;
  return instance;
}

Region& block_of(void* block, const char* who) {
  const auto address = reinterpret_cast<uint64_t>(block);
  Region* region = nearest_region(address);
  if (region == nullptr || !region->live || region->begin != address) {
    report("invalid block", std::string(who) + ": no allocation of cudaMalloc begins at this address");
    throw LaunchAborted{};
  }
  return *region;
}

}  // namespace
}  // namespace cudasim

using namespace cudasim;

// Both take place in the stream's order (and are part of its recordings), as the uses of the block do.
extern "C" void tandem_block_acquired(void* block, size_t bytes, cudaStream_t stream) {
  const Lock lock(device_mutex());
  captures()[block] = capture_of(stream);
  submit(stream, [=] {
    Region& region = block_of(block, "tandem_block_acquired");
    if (bytes > region.capacity) {
      report("invalid block",
             "tandem_block_acquired: " + std::to_string(bytes) + " bytes of " + describe(region));
      return;
    }
    acquire_block(region, bytes);
  });
}

extern "C" void tandem_block_released(void* block, cudaStream_t stream) {
  const Lock lock(device_mutex());
  // What a recording acquires, it releases at each replay. A block from before it is gone once: replays that
  // use it are wrong.
  const bool before_capture = capture_of(stream) != 0 && captures()[block] != capture_of(stream);
  // What a recording leaves is gone, too, once another one has run that shares its memory.
  const bool recorded_result = captures()[block] != 0 && captures()[block] != capture_of(stream);
  const auto work = [=] {
    Region& region = block_of(block, "tandem_block_released");
    if (region.pooled) {
      if (recorded_result) return;
      report("double free", "tandem_block_released: " + describe(region));
      return;
    }
    if (!canary_intact(region)) {
      report("out of bounds", "bytes behind " + describe(region) + " were written; found as it was released");
    }
    release_block(region);
  };
  if (before_capture) {
    submit_beside_capture(stream, work);
  } else {
    submit(stream, work);
  }
}
