// The caching allocator of the CPU. Freed blocks are kept in bins by size class and handed out again:
// fresh pages from the system are zeroed one page fault at a time, which costs a training step more than
// many of its kernels. Size classes are eighths of a power of two, so at most 1/8 of a block is unused.
#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "autograd/device.h"

namespace tandem {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
int allocation_fill = -1;

int64_t size_class(int64_t bytes) {
  if (bytes <= 512) return (bytes + 63) / 64 * 64;
  const int64_t step = int64_t{1} << (std::bit_width(static_cast<uint64_t>(bytes - 1)) - 4);
  return (bytes + step - 1) / step * step;
}

class CpuBackend final : public Backend {
 public:
  void* allocate(int64_t bytes) override {
    const int64_t size = size_class(bytes);
    void* data = nullptr;
    {
      std::lock_guard lock(mutex_);
      auto& bin = bins_[size];
      if (!bin.empty()) {
        data = bin.back();
        bin.pop_back();
        stats_.cached -= size;
      } else {
        ++stats_.system_calls;
      }
      stats_.in_use += size;
      stats_.peak = std::max(stats_.peak, stats_.in_use);
    }
    if (!data) data = from_system(size);
    if (allocation_fill >= 0) std::memset(data, allocation_fill, size);
    return data;
  }

  void release(void* data, int64_t bytes) noexcept override {
    const int64_t size = size_class(bytes);
    std::lock_guard lock(mutex_);
    bins_[size].push_back(data);
    stats_.in_use -= size;
    stats_.cached += size;
  }

  void copy_to_host(void* host, const void* data, int64_t bytes) override { std::memcpy(host, data, bytes); }
  void copy_from_host(void* data, const void* host, int64_t bytes) override {
    std::memcpy(data, host, bytes);
  }

  MemoryStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() override {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void release_cached() override {
    std::lock_guard lock(mutex_);
    for (auto& [size, bin] : bins_) {
      for (void* data : bin) std::free(data);
      bin.clear();
    }
    stats_.cached = 0;
  }

 private:
  void* from_system(int64_t size) {
    const int64_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    void* data = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!data) {
      release_cached();
      data = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    }
    if (!data) {
      std::lock_guard lock(mutex_);
      stats_.in_use -= size;
      raise<DeviceError>("cpu: out of memory: asked for {} bytes with {} in use; the replay plan needs less",
                         size, stats_.in_use);
    }
    if (size >= kHugePage) madvise(data, size, MADV_HUGEPAGE);
    return data;
  }

  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> bins_;
  MemoryStats stats_;
};

}  // namespace

// Never destroyed: tensors of static storage duration may outlive it otherwise.
Backend* cpu_backend() {
  static CpuBackend* instance = new CpuBackend;
  return instance;
}

void set_allocation_fill(int byte) { allocation_fill = byte; }

}  // namespace tandem
