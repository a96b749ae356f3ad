#include "cuda/allocator.h"

#include <algorithm>
#include <bit>

#include "autograd/scope.h"
#include "cuda/context.h"

namespace tandem::cuda {
namespace {

// Eighths of a power of two, at least 512 bytes: at most 1/8 of a block is unused, and sizes that are near
// each other share blocks.
int64_t rounded(int64_t bytes) {
  if (bytes <= 512) return 512;
  const int power = std::bit_width(static_cast<uint64_t>(bytes - 1)) - 1;
  const int64_t step = std::max<int64_t>(512, int64_t{1} << std::max(0, power - 3));
  return (bytes + step - 1) / step * step;
}

double mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

void* Allocator::allocate(int64_t bytes) {
  const int64_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* data = take(bins_[current_], size);
  if (!data) data = from_device(size);
  if (current_ != 0) owner_[data] = current_;
  stats_.in_use += size;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  if (block_acquired) block_acquired(data, static_cast<size_t>(bytes), stream());
  return data;
}

void Allocator::release(void* data, int64_t bytes) noexcept {
  const int64_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  if (block_released) block_released(data, stream());
  const auto owner = owner_.find(data);
  bins_[owner == owner_.end() ? 0 : owner->second].emplace(size, data);
  stats_.in_use -= size;
  stats_.cached += size;
}

void* Allocator::take(Bin& bin, int64_t size) {
  const auto found = bin.find(size);
  if (found == bin.end()) return nullptr;
  void* data = found->second;
  bin.erase(found);
  stats_.cached -= size;
  return data;
}

void* Allocator::from_device(int64_t size) {
  void* data = nullptr;
  cudaError_t status = cudaMalloc(&data, size);
  ++stats_.system_calls;
  if (status == cudaErrorMemoryAllocation && current_ == 0) {  // what is cached has other sizes
    cudaGetLastError();
    free_bin(bins_[0]);
    status = cudaMalloc(&data, size);
    ++stats_.system_calls;
  }
  if (status == cudaErrorMemoryAllocation) out_of_memory(size);
  check(status, "cudaMalloc");
  return data;
}

void Allocator::out_of_memory(int64_t bytes) const {
  cudaGetLastError();
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  raise<OutOfMemoryError>(
      "{}: cuda: out of memory: asked for {:.1f} MiB with {:.1f} MiB held by tensors, {:.1f} MiB cached, "
      "{:.1f} of {:.1f} MiB free; a smaller batch, TrainerOptions::accumulate, or Plan::replay (one pass's "
      "activations for any number of passes) need less",
      OpScope::current(), mebibytes(bytes), mebibytes(stats_.in_use), mebibytes(stats_.cached),
      mebibytes(static_cast<int64_t>(free)), mebibytes(static_cast<int64_t>(total)));
}

void Allocator::free_bin(Bin& bin) {
  if (!bin.empty()) check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  for (const auto& [size, data] : bin) {
    check(cudaFree(data), "cudaFree");
    stats_.cached -= size;
  }
  bin.clear();
}

MemoryStats Allocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

void Allocator::release_cached() {
  const std::lock_guard lock(mutex_);
  free_bin(bins_[0]);
}

Allocator::Pool Allocator::make_pool() {
  const std::lock_guard lock(mutex_);
  return ++made_;
}

void Allocator::begin_pool(Pool pool) {
  const std::lock_guard lock(mutex_);
  current_ = pool;
}

void Allocator::end_pool() {
  const std::lock_guard lock(mutex_);
  current_ = 0;
}

void Allocator::free_pool(Pool pool) {
  const std::lock_guard lock(mutex_);
  bins_[0].merge(bins_[pool]);
  bins_.erase(pool);
  std::erase_if(owner_, [pool](const auto& block) { return block.second == pool; });
}

// Never destroyed: tensors of static storage duration may outlive it otherwise.
Allocator& allocator() {
  static Allocator* instance = new Allocator;
  return *instance;
}

}  // namespace tandem::cuda
