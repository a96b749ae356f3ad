// The checks of simulated libraries' operands.
#include "memory/device_memory.h"
#include "ptx/interpreter.h"
#include "runtime/runtime.h"
#include "runtime/stream_order.h"

namespace cudasim {
namespace {

[[noreturn]] void refuse(const std::string& kind, const std::string& message) {
  report(kind, message, cudaErrorIllegalAddress);
  throw LaunchAborted{};
}

Region& region_of(const void* device, size_t bytes, const char* who) {
  const auto address = reinterpret_cast<uint64_t>(device);
  if (Region* region = find_region(address, bytes)) return *region;
  const std::string range = std::string(who) + ": " + std::to_string(bytes) + " bytes";
  if (!in_device_range(address)) {
    const Region* near = nearest_region(address);
    if (near != nullptr && near->kind == RegionKind::pinned && near->live && near->holds(address, 0)) {
      refuse("out of bounds", range + " reach beyond " + describe(*near));
    }
    refuse("host pointer", range + " at an address that is no device memory");
  }
  const Region* near = nearest_region(address);
  if (near == nullptr) refuse("out of bounds", range + " before every allocation");
  const auto at = static_cast<int64_t>(address - near->begin);
  refuse(!near->live || near->pooled ? "use after free" : "out of bounds",
         range + " at offset " + std::to_string(at) + " of " + describe(*near));
}

size_t offset_in(const Region& region, const void* device) {
  return reinterpret_cast<uint64_t>(device) - region.begin;
}

void require_initialised(const Region& region, size_t at, size_t bytes, const char* who) {
  if (!options().check || !region.shadow.exists()) return;
  const size_t first = region.shadow.first_uninitialised(at, bytes);
  if (first == at + bytes) return;
  report("uninitialised read", std::string(who) + ": byte " + std::to_string(first - at) + " of the " +
                                   std::to_string(bytes) + " that it reads at offset " + std::to_string(at) +
                                   " of " + describe(region) + " was never written");
}

void mark_written(Region& region, size_t at, size_t bytes) {
  if (region.kind == RegionKind::constant) return;
  if (region.shadow.exists()) region.shadow.mark(at, bytes, true);
}

struct Extent {
  const std::byte* lowest;
  size_t bytes;
};
Extent extent(const void* device, size_t rows, size_t row_bytes, ptrdiff_t stride) {
  const auto* first = static_cast<const std::byte*>(device);
  const ptrdiff_t last = stride * static_cast<ptrdiff_t>(rows - 1);
  return {last < 0 ? first + last : first, static_cast<size_t>(last < 0 ? -last : last) + row_bytes};
}

template <class Each>
void* rows_of(const void* device, size_t rows, size_t row_bytes, ptrdiff_t stride, const char* who,
              Each each) {
  if (rows == 0 || row_bytes == 0) return nullptr;
  const Extent whole = extent(device, rows, row_bytes, stride);
  Region& region = region_of(whole.lowest, whole.bytes, who);
  const size_t first = offset_in(region, device);
  for (size_t row = 0; row < rows; ++row)
    each(region, first + static_cast<size_t>(stride * static_cast<ptrdiff_t>(row)));
  return region.bytes + first;
}

}  // namespace

std::byte* check_span(const void* device, size_t bytes, const char* who) {
  Region& region = region_of(device, bytes, who);
  return region.bytes + offset_in(region, device);
}

const void* check_read_rows(const void* device, size_t rows, size_t row_bytes, ptrdiff_t stride,
                            const char* who) {
  return rows_of(device, rows, row_bytes, stride, who, [&](Region& region, size_t at) {
    require_initialised(region, at, row_bytes, who);
    note_access(region, at, row_bytes, false, who);
  });
}

void* check_write_rows(void* device, size_t rows, size_t row_bytes, ptrdiff_t stride, const char* who) {
  return rows_of(device, rows, row_bytes, stride, who, [&](Region& region, size_t at) {
    mark_written(region, at, row_bytes);
    note_access(region, at, row_bytes, true, who);
  });
}

void* check_update_rows(void* device, size_t rows, size_t row_bytes, ptrdiff_t stride, const char* who) {
  check_read_rows(device, rows, row_bytes, stride, who);
  return check_write_rows(device, rows, row_bytes, stride, who);
}

const void* check_read(const void* device, size_t bytes, const char* who) {
  return check_read_rows(device, 1, bytes, 0, who);
}
void* check_write(void* device, size_t bytes, const char* who) {
  return check_write_rows(device, 1, bytes, 0, who);
}
void* check_update(void* device, size_t bytes, const char* who) {
  return check_update_rows(device, 1, bytes, 0, who);
}

void mark_uninitialised(void* device, size_t bytes) {
  const Lock lock(device_mutex());
  if (bytes == 0) return;
  Region& region = region_of(device, bytes, "mark_uninitialised");
  if (region.shadow.exists()) region.shadow.mark(offset_in(region, device), bytes, false);
}

bool is_device_pointer(const void* pointer) { return in_device_range(reinterpret_cast<uint64_t>(pointer)); }

size_t bytes_behind(const void* pointer) {
  const Lock lock(device_mutex());
  const Region* region = find_region(reinterpret_cast<uint64_t>(pointer), 0);
  return region == nullptr ? 0 : region->size - offset_in(*region, pointer);
}

std::vector<std::string> live_allocations() {
  const Lock lock(device_mutex());
  std::vector<std::string> result;
  for (const Region* region : live_regions()) result.push_back(describe(*region));
  return result;
}

}  // namespace cudasim
