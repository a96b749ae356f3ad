#include "memory/access_checker.h"

#include <algorithm>
#include <array>

#include "runtime/stream_order.h"

namespace cudasim {
namespace {

const char* verb(Access access) {
  return access == Access::read ? "read" : access == Access::write ? "write" : "atomic operation";
}

std::string position(const Region& region, uint64_t address) {
  const auto at = static_cast<int64_t>(address - region.begin);
  if (at < 0) return std::to_string(-at) + " bytes before ";
  if (at < static_cast<int64_t>(region.asked)) return "offset " + std::to_string(at) + " of ";
  return std::to_string(at - static_cast<int64_t>(region.asked)) + " bytes behind the end of ";
}

}  // namespace

Region& locate(Warp& w, const Instruction& in, uint32_t lane, uint64_t address, uint32_t bytes,
               Access access) {
  if (Region* region = find_region(address, bytes); region != nullptr) {
    if (region->kind == RegionKind::constant && access != Access::read) {
      w.abort("out of bounds", std::string(verb(access)) + " to " + describe(*region), lane,
              cudaErrorIllegalAddress);
    }
    return *region;
  }
  const std::string what =
      std::string(verb(access)) + " of " + std::to_string(bytes) + " bytes at " + hex(address);
  if (address < 65536) {
    w.abort("null pointer", what, lane, cudaErrorIllegalAddress);
  }
  Region* near = nearest_region(address);
  if (!in_device_range(address)) {
    // Pinned memory may be what is missed by little.
    if (near != nullptr && near->kind == RegionKind::pinned && address - near->begin < near->asked + 4096) {
      w.abort("out of bounds", what + ", " + position(*near, address) + describe(*near), lane,
              cudaErrorIllegalAddress);
    }
    w.abort("host pointer", what + ", which is no device memory", lane, cudaErrorIllegalAddress);
  }
  if (near == nullptr)
    w.abort("out of bounds", what + ", before every allocation", lane, cudaErrorIllegalAddress);
  const bool inside_freed = (!near->live || near->pooled) && address - near->begin < near->asked;
  (void)in;
  w.abort(inside_freed ? "use after free" : "out of bounds",
          what + ", " + position(*near, address) + describe(*near), lane, cudaErrorIllegalAddress);
}

Region& locate_shared(Warp& w, const Instruction&, uint32_t lane, uint64_t offset, uint32_t bytes,
                      Access access) {
  const Region* near = nullptr;
  for (const Region& region : w.launch->shared) {
    if (near == nullptr || region.begin <= offset) near = &region;
  }
  std::string what = std::string(verb(access)) + " of " + std::to_string(bytes) + " bytes of shared memory";
  if (near != nullptr) {
    what += ", " + position(*near, offset) + describe(*near);
  } else {
    what += ", of which the kernel has none";
  }
  w.abort("out of bounds", what, lane, cudaErrorIllegalAddress);
}

void misaligned(Warp& w, uint32_t lane, uint64_t address, uint32_t bytes, Access access) {
  w.abort("misaligned",
          std::string(verb(access)) + " of " + std::to_string(bytes) + " bytes at " + hex(address) +
              ", which is no multiple of " + std::to_string(bytes),
          lane, cudaErrorMisalignedAddress);
}

void report_uninitialised(Warp& w, uint32_t lane, Region& region, size_t at, uint32_t bytes) {
  const size_t first = region.shadow.first_uninitialised(at, bytes);
  w.report("uninitialised read",
           "read of " + std::to_string(bytes) + " bytes at " + position(region, region.begin + at) +
               describe(region) + ": byte " + std::to_string(first) + " was never written",
           lane, cudaErrorLaunchFailure);
}

namespace {

struct Other {
  uint32_t block;
  uint32_t thread;
};

Other who(const Launch& launch, uint32_t epoch, uint32_t thread) {
  const auto it = std::upper_bound(launch.block_epochs.begin(), launch.block_epochs.end(), epoch);
  return {launch.block_order[static_cast<size_t>(it - launch.block_epochs.begin()) - 1], thread};
}

// Did the other block publish what it did in that epoch, and did this one look?
bool published(const Warp& w, uint32_t epoch) {
  const Launch& launch = *w.launch;
  if (!launch.any_release || !w.block->acquired) return false;
  return launch.released[who(launch, epoch, 0).block] >= epoch;
}

// Is an access of the same block by a lane, at an epoch and clock, ordered before this one?
bool ordered(const Warp& w, uint32_t lane, uint32_t thread, uint32_t epoch, uint16_t clock) {
  if (epoch < w.block->epoch || thread == w.thread(lane)) return true;
  return thread / warp_size == w.index && clock < w.clock[lane];
}

void race(Warp& w, uint32_t lane, const Region& region, size_t at, uint32_t epoch, uint32_t thread,
          const char* what) {
  const Other other = who(*w.launch, epoch, thread);
  const bool across = epoch < w.block->start_epoch;
  std::string text = std::string(what) + " at " + position(region, region.begin + at) + describe(region) +
                     ": not ordered with thread " + std::to_string(other.thread) + " of ";
  text += across ? "block " + std::to_string(other.block) : "the same block";
  if (!across && other.thread / warp_size == w.index) text += " and warp";
  w.report("race", text, lane, cudaErrorLaunchFailure);
}

constexpr size_t most_reads_beside_atomics = 64;

void note_read_beside_atomic(Warp& w, const Region& region, size_t at, uint32_t thread) {
  auto& reads = w.block->reads_beside_atomics;
  const bool known = std::any_of(reads.begin(), reads.end(), [&](const ReadBesideAtomic& r) {
    return r.region == &region && r.at == at && r.thread == thread;
  });
  if (known || reads.size() == most_reads_beside_atomics) return;
  reads.push_back({&region, at, thread, w.executing, w.current.function});
}

// The other access was made before this launch, by work that may not be ordered before it.
void race_between_streams(Warp& w, uint32_t lane, const Region& region, size_t at, const std::string* other,
                          const char* what) {
  if (other == nullptr) return;
  w.report("race between streams",
           std::string(what) + " at " + position(region, region.begin + at) + describe(region) +
               ", not ordered with " + *other + ": no event, and no waiting of the host, is between them",
           lane, cudaErrorLaunchFailure);
}

}  // namespace

void check_write_after_write(Warp& w, uint32_t lane, Region& region, size_t at, const Cell& cell,
                             bool atomic) {
  if (atomic && (cell.writer & Cell::atomic_write) != 0) return;
  if (cell.write_epoch < w.launch->first_epoch) {
    return race_between_streams(w, lane, region, at, unordered_work(cell.write_epoch), "write after write");
  }
  const uint32_t thread = cell.writer & Cell::thread_mask;
  if (cell.write_epoch < w.block->start_epoch
          ? published(w, cell.write_epoch)
          : ordered(w, lane, thread, cell.write_epoch, cell.write_clock)) {
    return;
  }
  race(w, lane, region, at, cell.write_epoch, thread, "write after write");
}

void check_read_after_write(Warp& w, uint32_t lane, Region& region, size_t at, const Cell& cell) {
  if (cell.write_epoch < w.launch->first_epoch) {
    return race_between_streams(w, lane, region, at, unordered_work(cell.write_epoch), "read after write");
  }
  const bool atomic = (cell.writer & Cell::atomic_write) != 0;
  if (atomic && w.executing->flags == strong_access) return;
  const uint32_t thread = cell.writer & Cell::thread_mask;
  if (cell.write_epoch < w.block->start_epoch
          ? published(w, cell.write_epoch)
          : ordered(w, lane, thread, cell.write_epoch, cell.write_clock)) {
    return;
  }
  if (atomic) {
    note_read_beside_atomic(w, region, at, w.thread(lane));
  } else {
    race(w, lane, region, at, cell.write_epoch, thread, "read after write");
  }
}

void check_atomic_after_read(Warp& w, uint32_t lane, Region& region, size_t at, const Cell& cell) {
  if (cell.read_epoch < w.block->start_epoch) return check_write_after_read(w, lane, region, at, cell);
  const uint32_t thread = cell.reader & Cell::thread_mask;
  if (ordered(w, lane, thread, cell.read_epoch, cell.read_clock)) return;
  note_read_beside_atomic(w, region, at, thread);
}

void forget_reads_beside_atomics(Warp& w, uint32_t thread, const Region& region, size_t at) {
  std::erase_if(w.block->reads_beside_atomics, [&](const ReadBesideAtomic& r) {
    return r.region == &region && r.at == at && r.thread == thread;
  });
}

void Block::report_reads_beside_atomics() {
  for (const ReadBesideAtomic& r : reads_beside_atomics) {
    Warp& warp = warps[r.thread / warp_size];
    warp.current.function = r.function;
    warp.executing = r.instruction;
    warp.report("race",
                "read at " + position(*r.region, r.region->begin + r.at) + describe(*r.region) +
                    ": not ordered with atomic operations of other threads",
                r.thread % warp_size, cudaErrorLaunchFailure);
  }
  reads_beside_atomics.clear();
}

void check_write_after_read(Warp& w, uint32_t lane, Region& region, size_t at, const Cell& cell) {
  if (cell.read_epoch < w.launch->first_epoch) {
    return race_between_streams(w, lane, region, at, unordered_work(cell.read_epoch), "write after read");
  }
  if ((cell.reader & Cell::other_stream) != 0) {
    const std::string other = "work of another stream";
    race_between_streams(w, lane, region, at, &other, "write after read");
  }
  const uint32_t thread = cell.reader & Cell::thread_mask;
  if (cell.read_epoch < w.block->start_epoch) {
    if (!published(w, cell.read_epoch))
      race(w, lane, region, at, cell.read_epoch, thread, "write after read");
    return;
  }
  if ((cell.reader & Cell::many_blocks) != 0 && !(w.launch->any_release && w.block->acquired)) {
    return race(w, lane, region, at, cell.read_epoch, thread, "write after read by several blocks");
  }
  if (cell.read_epoch < w.block->epoch) return;
  const bool others = (cell.reader & Cell::many_warps) != 0 ||
                      ((cell.reader & Cell::many_lanes) != 0 && cell.read_clock >= w.clock[lane]);
  if (others || !ordered(w, lane, thread, cell.read_epoch, cell.read_clock)) {
    race(w, lane, region, at, cell.read_epoch, thread, "write after read");
  }
}

namespace {

struct Range {
  uint64_t begin, end;
};
std::vector<Range> reused;

}  // namespace

void count_reused(const void* device, size_t bytes) {
  if (device == nullptr) return reused.clear();
  const auto begin = reinterpret_cast<uint64_t>(device);
  reused.push_back({begin, begin + bytes});
}

void count_global(Warp& w, const uint64_t* addresses, uint32_t lanes, uint32_t bytes, Access access) {
  // The places that the warp accesses, in order: of equal size and aligned, so they are equal or apart.
  std::array<uint64_t, warp_size> places;
  size_t count = 0;
  bool ordered = true;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const uint64_t place = addresses[std::countr_zero(rest)];
    if (count != 0 && places[count - 1] == place) continue;
    ordered &= count == 0 || places[count - 1] < place;
    places[count++] = place;
  }
  if (!ordered) {
    std::sort(places.begin(), places.begin() + count);
    count = static_cast<size_t>(std::unique(places.begin(), places.begin() + count) - places.begin());
  }
  LaunchCounters& counters = w.launch->counters;
  const uint64_t asked = uint64_t{bytes} * count;
  for (const Range& range : reused) {
    if (access == Access::read && count != 0 && places[0] >= range.begin && places[0] < range.end) {
      counters.reused_bytes += asked;
      return;
    }
  }
  // An access is no larger than a sector, and lies in one.
  count = static_cast<size_t>(std::unique(places.begin(), places.begin() + count,
                                          [](uint64_t a, uint64_t b) { return a / 32 == b / 32; }) -
                              places.begin());
  if (access != Access::write) {
    counters.read_bytes += asked;
    counters.read_sectors += count;
  }
  if (access != Access::read) {
    counters.written_bytes += asked;
    counters.written_sectors += count;
  }
}

void count_shared(Warp& w, const uint64_t* offsets, uint32_t lanes, uint32_t bytes) {
  // 32 banks of 4 bytes. Accesses of 8 and 16 bytes are served to half and quarter warps one after another.
  LaunchCounters& counters = w.launch->counters;
  ++counters.shared_accesses;
  const uint32_t group = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  for (uint32_t first = 0; first < warp_size; first += group) {
    const uint32_t some = lanes & (group == 32 ? ~0u : ((1u << group) - 1) << first);
    if (some == 0) continue;
    std::array<uint8_t, 32> cycles{};
    std::array<uint64_t, warp_size> words;
    std::array<uint8_t, warp_size> banks;
    size_t count = 0;
    uint32_t most = 0;
    uint64_t last = ~uint64_t{0};
    for (uint32_t rest = some; rest != 0; rest &= rest - 1) {
      const uint64_t unit = offsets[std::countr_zero(rest)] / std::max(bytes, 4u);
      if (unit == last) continue;  // a broadcast
      last = unit;
      const auto bank = static_cast<uint8_t>(unit % (32 / (std::max(bytes, 4u) / 4)));
      bool known = false;
      if (cycles[bank] != 0) {
        for (size_t k = 0; k < count && !known; ++k) known = banks[k] == bank && words[k] == unit;
      }
      if (known) continue;
      words[count] = unit;
      banks[count++] = bank;
      most = std::max<uint32_t>(most, ++cycles[bank]);
    }
    counters.bank_conflicts += most - 1;
  }
}

}  // namespace cudasim
