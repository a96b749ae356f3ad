#include "memory/device_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>

#include "runtime/options.h"

namespace cudasim {
namespace {

constexpr size_t page = 4096;
constexpr size_t alignment = 256;  // as cudaMalloc promises
constexpr size_t address_space = size_t{1} << 42;
constexpr int poison = 0xff;  // a NaN in every floating-point type

// Two ranges of addresses: the device's, at which nothing is ever mapped, and at a constant distance the
// bytes.
struct Heap {
  uint64_t device = 0;
  std::byte* bytes = nullptr;
  size_t top = page;
  size_t used = 0;
  uint64_t allocations = 0;
  std::map<uint64_t, std::unique_ptr<Region>> regions;
  std::vector<std::unique_ptr<Region>> retired;  // instructions may remember them
  Region* last = nullptr;

  Heap() {
    const auto reserve = [] {
      void* range =
          mmap(nullptr, address_space, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (range == MAP_FAILED) throw std::runtime_error("cudasim: no address space for the device's memory");
      return range;
    };
    device = reinterpret_cast<uint64_t>(reserve());
    bytes = static_cast<std::byte*>(reserve());
  }
};

Heap& heap() {
  static Heap& instance = *new Heap;  // modules unregister after the destructors of this library
  return instance;
}

size_t round_up(size_t value, size_t to) { return (value + to - 1) / to * to; }

struct sigaction previous_action;

void on_fault(int number, siginfo_t* info, void* context) {
  if (in_device_range(reinterpret_cast<uint64_t>(info->si_addr))) {
    char text[160];
    const int length = std::snprintf(
        text, sizeof text,
        "cudasim: host code follows a device pointer: access to %p, which is device memory\n", info->si_addr);
    if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) std::abort();
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(number);
  } else {
    ::signal(number, SIG_DFL);  // the instruction is repeated, and ends the process
  }
}

}  // namespace

void install_fault_handler() {
  struct sigaction current {};
  sigaction(SIGSEGV, nullptr, &current);
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == &on_fault) return;
  previous_action = current;
  struct sigaction action {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

std::string describe(const Region& region) {
  const std::string size = " of " + std::to_string(region.asked) + " bytes";
  switch (region.kind) {
    case RegionKind::variable:
      return "variable '" + region.name + "'" + size;
    case RegionKind::constant:
      return "constant '" + region.name + "'" + size;
    case RegionKind::shared:
      return "shared array '" + region.name + "'" + size;
    case RegionKind::pinned:
      return "pinned host memory #" + std::to_string(region.number) + size;
    case RegionKind::device:
      break;
  }
  const char* state = !region.live    ? "freed allocation #"
                      : region.pooled ? "allocation in no use, #"
                                      : "allocation #";
  return state + std::to_string(region.number) + size;
}

Region* allocate_region(size_t bytes, RegionKind kind, const std::string& name) {
  Heap& h = heap();
  const size_t held = round_up(bytes, alignment), pages = round_up(held, page);
  if (h.used + held > options().memory || h.top + pages + page > address_space) return nullptr;
  const size_t mapped = h.top;
  h.top += pages + page;  // an unmapped page between allocations
  if (mprotect(h.bytes + mapped, pages, PROT_READ | PROT_WRITE) != 0) return nullptr;
  const size_t at = mapped + pages - held;
  std::memset(h.bytes + at, poison, held);
  auto region = std::make_unique<Region>();
  region->begin = h.device + at;
  region->size = region->capacity = region->asked = bytes;
  region->bytes = h.bytes + at;
  region->kind = kind;
  region->name = name;
  region->number = ++h.allocations;
  if (kind == RegionKind::device || kind == RegionKind::variable) region->shadow.create(held, true);
  h.used += held;
  return (h.regions[region->begin] = std::move(region)).get();
}

void acquire_block(Region& region, size_t bytes) {
  region.size = region.asked = bytes;
  region.pooled = false;
  std::memset(region.bytes, poison, round_up(region.capacity, alignment));
  if (region.shadow.exists()) region.shadow.mark(0, region.capacity, false);
}

void release_block(Region& region) {
  region.size = 0;
  region.pooled = true;
}

bool canary_intact(const Region& region) {
  for (size_t i = region.size; i < round_up(region.capacity, alignment); ++i) {
    if (region.bytes[i] != std::byte{poison}) return false;
  }
  return true;
}

void free_region(Region& region) {
  Heap& h = heap();
  const size_t held = round_up(region.capacity, alignment), pages = round_up(held, page);
  std::byte* mapped = region.bytes + held - pages;
  madvise(mapped, pages, MADV_DONTNEED);
  mprotect(mapped, pages, PROT_NONE);
  h.used -= held;
  region.live = false;
  region.size = 0;
  region.shadow.release();
}

Region* allocate_pinned(size_t bytes) {
  Heap& h = heap();
  auto region = std::make_unique<Region>();
  region->bytes =
      static_cast<std::byte*>(std::aligned_alloc(page, round_up(std::max<size_t>(bytes, 1), page)));
  if (region->bytes == nullptr) return nullptr;
  std::memset(region->bytes, poison, bytes);
  region->begin = reinterpret_cast<uint64_t>(region->bytes);
  region->size = region->capacity = region->asked = bytes;
  region->kind = RegionKind::pinned;
  region->number = ++h.allocations;
  return (h.regions[region->begin] = std::move(region)).get();
}

void free_pinned(Region& region) {
  Heap& h = heap();
  std::free(region.bytes);
  if (h.last == &region) h.last = nullptr;
  const auto it = h.regions.find(region.begin);
  region.live = false;
  region.size = 0;
  h.retired.push_back(std::move(it->second));
  h.regions.erase(it);  // its address will be used again
}

Region* nearest_region(uint64_t address) {
  Heap& h = heap();
  if (h.last != nullptr && h.last->live && address - h.last->begin < h.last->capacity) return h.last;
  auto next = h.regions.upper_bound(address);
  if (next == h.regions.begin()) return nullptr;
  return h.last = std::prev(next)->second.get();
}

Region* find_region(uint64_t address, size_t bytes) {
  Region* region = nearest_region(address);
  return region != nullptr && region->live && region->holds(address, bytes) ? region : nullptr;
}

bool in_device_range(uint64_t address) { return address - heap().device < address_space; }

MemoryUse memory_use() { return {heap().used, options().memory}; }

std::vector<const Region*> live_regions() {
  std::vector<const Region*> result;
  for (const auto& [begin, region] : heap().regions) {
    if (region->live && (region->kind == RegionKind::device || region->kind == RegionKind::pinned)) {
      result.push_back(region.get());
    }
  }
  return result;
}

}  // namespace cudasim
