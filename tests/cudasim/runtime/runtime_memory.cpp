// Allocation, copies, and filling of memory.
#include <algorithm>
#include <cstring>

#include "memory/device_memory.h"
#include "ptx/interpreter.h"
#include "runtime/runtime.h"
#include "runtime/stream_order.h"

namespace cudasim {
namespace {

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

bool on_device(const void* pointer) { return in_device_range(address_of(pointer)); }

bool is_pinned(const void* pointer) {
  const Region* region = find_region(address_of(pointer), 1);
  return region != nullptr && region->kind == RegionKind::pinned;
}

struct Rectangle {
  size_t rows, row_bytes;
};

cudaError_t check_direction(const void* to, const void* from, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return cudaSuccess;
  const bool device_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool device_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return on_device(to) == device_to && on_device(from) == device_from ? cudaSuccess : cudaErrorInvalidValue;
}

// Copies rows; ranges are checked here, as the copy is made. Copies of uninitialised bytes stay so, unseen
// until read.
void copy(void* to, ptrdiff_t to_stride, const void* from, ptrdiff_t from_stride, Rectangle r) {
  name_work("copy");
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  Region* source_region = nullptr;
  Region* target_region = nullptr;
  const auto span = [&](ptrdiff_t stride) {
    return (r.rows - 1) * static_cast<size_t>(stride) + r.row_bytes;
  };
  if (on_device(from)) {
    source = check_span(from, span(from_stride), "copy: source");
    source_region = find_region(address_of(from), 1);
  }
  if (on_device(to)) {
    target = check_span(to, span(to_stride), "copy: destination");
    target_region = find_region(address_of(to), 1);
    if (target_region->kind == RegionKind::constant) target_region = nullptr;
  }
  for (size_t row = 0; row < r.rows; ++row) {
    const size_t from_at = row * static_cast<size_t>(from_stride),
                 to_at = row * static_cast<size_t>(to_stride);
    std::memmove(target + to_at, source + from_at, r.row_bytes);
    if (source_region != nullptr)
      note_access(*source_region, address_of(from) - source_region->begin + from_at, r.row_bytes, false,
                  "copy");
    if (target_region != nullptr)
      note_access(*target_region, address_of(to) - target_region->begin + to_at, r.row_bytes, true, "copy");
    if (target_region == nullptr || !target_region->shadow.exists()) continue;
    const size_t begin = address_of(to) - target_region->begin + to_at;
    target_region->shadow.mark(begin, r.row_bytes, true);
    if (source_region == nullptr || !source_region->shadow.exists()) continue;
    const size_t source_begin = address_of(from) - source_region->begin + from_at;
    const Shadow& shadow = source_region->shadow;
    for (size_t i = shadow.first_uninitialised(source_begin, r.row_bytes); i < source_begin + r.row_bytes;
         i = shadow.first_uninitialised(i + 1, source_begin + r.row_bytes - i - 1)) {
      target_region->shadow.mark(begin + (i - source_begin), 1, false);
    }
  }
  if (target_region == nullptr && source_region != nullptr && !on_device(to) && options().check) {
    for (size_t row = 0; row < r.rows; ++row) {
      check_read(static_cast<const std::byte*>(from) + row * static_cast<size_t>(from_stride), r.row_bytes,
                 "copy to the host");
    }
  }
}

cudaError_t copy_async(void* to, size_t to_stride, const void* from, size_t from_stride, Rectangle r,
                       cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = status()) return error;
  if (r.rows == 0 || r.row_bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr ||
      (r.rows > 1 && (to_stride < r.row_bytes || from_stride < r.row_bytes))) {
    return failed(cudaErrorInvalidValue);
  }
  if (const cudaError_t error = check_direction(to, from, kind)) return failed(error);
  const auto a = static_cast<ptrdiff_t>(to_stride), b = static_cast<ptrdiff_t>(from_stride);
  const bool pageable_source = !on_device(from) && !is_pinned(from),
             pageable_target = !on_device(to) && !is_pinned(to);
  const bool capturing = is_capturing(stream);
  if (wait) {
    if (const cudaError_t error = forbidden_in_capture()) return error;
  }
  if (pageable_source && !capturing) {  // is read during the call
    const size_t bytes = (r.rows - 1) * from_stride + r.row_bytes;
    const auto* begin = static_cast<const std::byte*>(from);
    auto staged = std::make_shared<std::vector<std::byte>>(begin, begin + bytes);
    if (const cudaError_t error = submit(stream, [=] { copy(to, a, staged->data(), b, r); })) return error;
  } else if (const cudaError_t error = submit(stream, [=] { copy(to, a, from, b, r); })) {
    return error;
  }
  if (wait || (pageable_target && !capturing)) synchronise_stream(stream);
  return status();
}

void fill(void* device, int value, size_t bytes) {
  name_work("cudaMemset");
  if (void* target = check_write(device, bytes, "cudaMemset")) std::memset(target, value, bytes);
}

}  // namespace
}  // namespace cudasim

using namespace cudasim;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = status()) return error;
  if (pointer == nullptr) return failed(cudaErrorInvalidValue);
  if (const cudaError_t error = forbidden_in_capture()) return error;
  install_fault_handler();
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Region* region = allocate_region(bytes, RegionKind::device);
  if (region == nullptr) return failed(cudaErrorMemoryAllocation);
  *pointer = reinterpret_cast<void*>(region->begin);
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (pointer == nullptr) return status();
  if (const cudaError_t error = forbidden_in_capture()) return error;
  synchronise_device();  // as the real one does
  Region* region = nearest_region(address_of(pointer));
  if (region == nullptr || region->begin != address_of(pointer) || !region->live ||
      region->kind != RegionKind::device) {
    const bool freed = region != nullptr && region->begin == address_of(pointer) && !region->live;
    report(freed ? "double free" : "invalid free",
           "cudaFree of " +
               (freed ? describe(*region) : std::string("an address that cudaMalloc did not return")),
           cudaErrorInvalidValue);
    return failed(cudaErrorInvalidValue);
  }
  if (!region->pooled && !canary_intact(*region))
    report("out of bounds", "bytes behind " + describe(*region) + " were written; found by cudaFree");
  free_region(*region);
  return status();
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = forbidden_in_capture()) return error;
  Region* region = allocate_pinned(bytes);
  if (region == nullptr) return failed(cudaErrorMemoryAllocation);
  *pointer = region->bytes;
  return status();
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (pointer == nullptr) return status();
  if (const cudaError_t error = forbidden_in_capture()) return error;
  synchronise_device();
  Region* region = find_region(address_of(pointer), 0);
  if (region == nullptr || region->begin != address_of(pointer) || region->kind != RegionKind::pinned) {
    report("invalid free", "cudaFreeHost of an address that cudaHostAlloc did not return, or twice",
           cudaErrorInvalidValue);
    return failed(cudaErrorInvalidValue);
  }
  free_pinned(*region);
  return status();
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_async(to, bytes, from, bytes, {1, bytes}, kind, stream, false);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy_async(to, bytes, from, bytes, {1, bytes}, kind, nullptr, true);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_stride, const void* from, size_t from_stride,
                              size_t row_bytes, size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_async(to, to_stride, from, from_stride, {rows, row_bytes}, kind, stream, false);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_stride, const void* from, size_t from_stride, size_t row_bytes,
                         size_t rows, cudaMemcpyKind kind) {
  return copy_async(to, to_stride, from, from_stride, {rows, row_bytes}, kind, nullptr, true);
}

cudaError_t cudaMemsetAsync(void* device, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (bytes != 0 && !on_device(device) && !is_pinned(device)) return failed(cudaErrorInvalidValue);
  return submit(stream, [=] { fill(device, value, bytes); });
}

cudaError_t cudaMemset(void* device, int value, size_t bytes) {
  return cudaMemsetAsync(device, value, bytes, nullptr);
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  size_t size = 0;
  const uint64_t address = find_variable(symbol, size);
  if (address == 0) return failed(cudaErrorInvalidSymbol);
  *pointer = reinterpret_cast<void*>(address);
  return status();
}

cudaError_t cudaGetSymbolSize(size_t* size, const void* symbol) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  return find_variable(symbol, *size) == 0 ? failed(cudaErrorInvalidSymbol) : status();
}

cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset,
                                    cudaMemcpyKind kind, cudaStream_t stream) {
  void* address = nullptr;
  if (const cudaError_t error = cudaGetSymbolAddress(&address, symbol)) return error;
  return cudaMemcpyAsync(static_cast<std::byte*>(address) + offset, from, bytes, kind, stream);
}

cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, size_t bytes, size_t offset,
                                      cudaMemcpyKind kind, cudaStream_t stream) {
  void* address = nullptr;
  if (const cudaError_t error = cudaGetSymbolAddress(&address, symbol)) return error;
  return cudaMemcpyAsync(to, static_cast<std::byte*>(address) + offset, bytes, kind, stream);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset,
                               cudaMemcpyKind kind) {
  void* address = nullptr;
  if (const cudaError_t error = cudaGetSymbolAddress(&address, symbol)) return error;
  return cudaMemcpy(static_cast<std::byte*>(address) + offset, from, bytes, kind);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset,
                                 cudaMemcpyKind kind) {
  void* address = nullptr;
  if (const cudaError_t error = cudaGetSymbolAddress(&address, symbol)) return error;
  return cudaMemcpy(to, static_cast<std::byte*>(address) + offset, bytes, kind);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  const MemoryUse use = memory_use();
  *free = use.total - std::min(use.used, use.total);
  *total = use.total;
  return status();
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  cudaPointerAttributes a{};
  a.device = 0;
  if (on_device(pointer)) {
    a.type = cudaMemoryTypeDevice;
    a.devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(pointer)) {
    a.type = cudaMemoryTypeHost;
    a.devicePointer = a.hostPointer = const_cast<void*>(pointer);
  } else {
    a.type = cudaMemoryTypeUnregistered;
    a.device = -2;
  }
  *attributes = a;
  return status();
}
}
