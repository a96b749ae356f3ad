// The caching allocator of the CPU. Freed blocks are kept in bins by size class and handed out again:
// fresh pages from the system are zeroed one page fault at a time, which costs a training step more than
// many of its kernels. Size classes are eighths of a power of two, so at most 1/8 of a block is unused.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "autograd/device.h"

namespace tandem {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int kAddressBits = 47;  // no process has more memory than that
constexpr int64_t kFloor = int64_t{256} << 20;
std::atomic<int> fill_byte = -1;

// Classes 0-7 hold 64, 128, .. 512 bytes; then eight to every power of two.
struct SizeClass {
  int index;
  int64_t size;
};
constexpr int kClasses = 8 + 8 * (kAddressBits - 9);

SizeClass size_class(int64_t bytes) {
  if (bytes <= 512) {
    const int64_t units = std::max<int64_t>(1, (bytes + 63) / 64);
    return {static_cast<int>(units) - 1, units * 64};
  }
  const int power = std::bit_width(static_cast<uint64_t>(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power+1)
  const int64_t step = int64_t{1} << (power - 3), steps = (bytes + step - 1) / step;  // 9 to 16 of them
  return {8 * (power - 9) + static_cast<int>(steps) - 1, steps * step};
}

// A free block begins with the address of the next one: keeping it takes no memory.
struct FreeBlock {
  FreeBlock* next;
};

class CpuBackend final : public Backend {
 public:
  void* allocate(int64_t bytes) override {
    if (bytes > int64_t{1} << kAddressBits) {
      std::lock_guard lock(mutex_);
      out_of_memory(bytes);
    }
    const auto [index, size] = size_class(bytes);
    void* data = take(index, size);
    if (!data) data = from_system(size);
    const int fill = allocation_fill();
    if (fill >= 0) std::memset(data, fill, size);
    return data;
  }

  void release(void* data, int64_t bytes) noexcept override {
    const auto [index, size] = size_class(bytes);
    std::lock_guard lock(mutex_);
    bins_[index] = new (data) FreeBlock{bins_[index]};
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
    free_all();
  }
  std::string description() const override { return "CPU"; }

 private:
  void use(int64_t size) {
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
  }

  // A cached block, or null.
  void* take(int index, int64_t size) {
    std::lock_guard lock(mutex_);
    FreeBlock* block = bins_[index];
    if (!block) return nullptr;
    bins_[index] = block->next;
    stats_.cached -= size;
    use(size);
    return block;
  }

  void* from_system(int64_t size) {
    std::lock_guard lock(mutex_);
    // Sizes that change from step to step must not pile up blocks that nobody asks for again.
    if (stats_.cached > 2 * stats_.peak + kFloor) free_all();
    void* data = system_block(size);
    if (!data) {
      free_all();
      data = system_block(size);
    }
    if (!data) out_of_memory(size);
    ++stats_.system_calls;
    use(size);
    return data;
  }

  static void* system_block(int64_t size) {
    void* data = nullptr;
    if (posix_memalign(&data, size >= kHugePage ? kHugePage : kAlignment, size) != 0) return nullptr;
    if (size >= kHugePage) madvise(data, size, MADV_HUGEPAGE);
    return data;
  }

  [[noreturn]] void out_of_memory(int64_t bytes) const {
    raise<OutOfMemoryError>("cpu: out of memory: asked for {} bytes with {} in use", bytes, stats_.in_use);
  }

  void free_all() {
    for (FreeBlock*& bin : bins_) {
      while (bin) std::free(std::exchange(bin, bin->next));
    }
    stats_.cached = 0;
  }

  mutable std::mutex mutex_;
  std::array<FreeBlock*, kClasses> bins_ = {};
  MemoryStats stats_;
};

}  // namespace

// Never destroyed: tensors of static storage duration may outlive it otherwise.
Backend* cpu_backend() {
  static CpuBackend* instance = new CpuBackend;
  return instance;
}

void set_allocation_fill(int byte) { fill_byte = byte; }
int allocation_fill() { return fill_byte.load(std::memory_order_relaxed); }

}  // namespace tandem
