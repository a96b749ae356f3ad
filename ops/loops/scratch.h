// Grow-only scratch memory of a thread, for kernels that pack or convert their operands.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::detail {

// Who owns a buffer: one kernel at a time on a thread holds each of them.
enum class Slot {
  library,
  pack_a,
  pack_b,
  pack_c,
  pack_bias,
  convert_a,
  convert_b,
  convert_c,
  convert_bias,
  tile,
  attention,
  columns,
  reorder_a,
  reorder_b,
  reorder_c,
  loss,
  count
};

// 64-byte aligned memory of at least `bytes`, valid until the same thread asks for the same slot again.
// Contents are undefined. Throws std::bad_alloc.
void* scratch(Slot slot, int64_t bytes);

template <class T> T* scratch_of(Slot slot, int64_t count) {
  return static_cast<T*>(scratch(slot, count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace tandem::detail
