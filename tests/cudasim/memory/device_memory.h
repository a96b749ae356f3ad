// The device's memory: allocations, their addresses and bytes, and what is known about both.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "memory/shadow.h"

namespace cudasim {

enum class RegionKind { device, variable, constant, pinned, shared };

// A piece of memory that kernels may access: an allocation, a module's variable, a shared array of the
// running block.
struct Region {
  uint64_t begin = 0;   // address as kernels see it
  size_t size = 0;      // what may be accessed: 0 once it is freed
  size_t capacity = 0;  // bytes that it was allocated with
  std::byte* bytes = nullptr;
  Shadow shadow;
  RegionKind kind = RegionKind::device;
  bool live = true;
  bool pooled = false;  // free in the pool of an allocator that has not given it back
  size_t asked = 0;     // size, also after it is freed
  uint64_t number = 0;  // counts allocations
  std::string name;     // of a variable

  bool holds(uint64_t address, size_t count) const {
    const uint64_t at = address - begin;
    return at <= size && count <= size - at;
  }
};

// "allocation #3 of 400 bytes", "freed allocation #3 ...", "variable 'counter' of 4 bytes".
std::string describe(const Region& region);

// nullptr: more than the device has.
Region* allocate_region(size_t bytes, RegionKind kind, const std::string& name = "");
// Marks it freed; its address is never used again.
void free_region(Region& region);
Region* allocate_pinned(size_t bytes);
void free_pinned(Region& region);

// The region that holds the address, or that begins last before it (its neighbour, possibly freed); nullptr
// if none.
Region* nearest_region(uint64_t address);
// The live region that holds the whole range; nullptr if there is none.
Region* find_region(uint64_t address, size_t bytes);
bool in_device_range(uint64_t address);

struct MemoryUse {
  size_t used = 0, total = 0;
};
MemoryUse memory_use();
std::vector<const Region*> live_regions();  // of cudaMalloc and pinned
// Were no bytes behind the end written (by a library, whose accesses are not seen one by one)?
bool canary_intact(const Region& region);
// An allocator hands out this block for so many bytes, of which none is initialised; and takes it back.
void acquire_block(Region& region, size_t bytes);
void release_block(Region& region);

// A message where host code follows a device pointer; then whatever the signal did before.
void install_fault_handler();

}  // namespace cudasim
