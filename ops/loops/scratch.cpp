#include "ops/loops/scratch.h"

#include <array>
#include <memory>
#include <new>

namespace tandem::detail {
namespace {

constexpr std::align_val_t kAlignment{64};
struct Free {
  void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
};
struct Buffer {
  std::unique_ptr<std::byte, Free> data;
  int64_t bytes = 0;
};

}  // namespace

void* scratch(Slot slot, int64_t bytes) {
  thread_local std::array<Buffer, static_cast<size_t>(Slot::count)> buffers;
  Buffer& buffer = buffers[static_cast<size_t>(slot)];
  if (!buffer.data || buffer.bytes < bytes) {
    buffer.data.reset();  // before the larger one is asked for: contents need not survive
    buffer.bytes = 0;
    const int64_t size = bytes + bytes / 4 + 64;
    buffer.data.reset(static_cast<std::byte*>(::operator new(static_cast<size_t>(size), kAlignment)));
    buffer.bytes = size;
  }
  return buffer.data.get();
}

}  // namespace tandem::detail
