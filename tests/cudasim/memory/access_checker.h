// Every access of a kernel to memory that others can see goes through here: bounds, alignment, whether it is
// initialised, races; and the counting of bytes.
#pragma once
#include "ptx/interpreter.h"
#include "runtime/stream_order.h"

namespace cudasim {

enum class Access { read, write, atomic };

// Finds the region, or reports and ends the launch.
Region& locate(Warp& warp, const Instruction& instruction, uint32_t lane, uint64_t address, uint32_t bytes,
               Access access);
Region& locate_shared(Warp& warp, const Instruction& instruction, uint32_t lane, uint64_t offset,
                      uint32_t bytes, Access access);
[[noreturn]] void misaligned(Warp& warp, uint32_t lane, uint64_t address, uint32_t bytes, Access access);
void report_uninitialised(Warp& warp, uint32_t lane, Region& region, size_t at, uint32_t bytes);
// The slow path of a race check: reports if the accesses are not ordered after all.
void check_write_after_write(Warp& warp, uint32_t lane, Region& region, size_t at, const Cell& cell,
                             bool atomic);
void check_write_after_read(Warp& warp, uint32_t lane, Region& region, size_t at, const Cell& cell);
void check_atomic_after_read(Warp& warp, uint32_t lane, Region& region, size_t at, const Cell& cell);
// The thread's reads of these bytes were those of a compare-and-swap loop.
void forget_reads_beside_atomics(Warp& warp, uint32_t thread, const Region& region, size_t at);
void check_read_after_write(Warp& warp, uint32_t lane, Region& region, size_t at, const Cell& cell);

template <Access access>
inline void check_cells(Warp& w, uint32_t lane, Region& region, size_t at, uint32_t bytes) {
  const Block& block = *w.block;
  const Launch& launch = *w.launch;
  const auto thread = static_cast<uint16_t>(w.thread(lane));
  const uint16_t clock = w.clock[lane];
  const bool shared = region.kind == RegionKind::shared;
  // What happened before is over: other launches, and for shared memory the last block. But work of other
  // streams may not be.
  const uint32_t epoch = block.epoch, first = shared ? block.start_epoch : launch.first_epoch;
  const uint32_t concurrent = shared ? block.start_epoch : launch.concurrent_from;
  size_t count;
  Cell* cell = region.shadow.cells(at, bytes, count);
  for (size_t k = 0; k < count; ++k, ++cell) {
    const uint16_t writer = cell->writer & Cell::thread_mask, reader = cell->reader & Cell::thread_mask;
    if constexpr (access != Access::read) {
      // Same thread and block in the launch: no conflict, whatever the order.
      if (cell->write_epoch >= concurrent && (writer != thread || cell->write_epoch < block.start_epoch)) {
        check_write_after_write(w, lane, region, at, *cell, access == Access::atomic);
      }
      if (cell->read_epoch >= concurrent &&
          (cell->reader != thread || cell->read_epoch < block.start_epoch)) {
        if constexpr (access == Access::write) {
          check_write_after_read(w, lane, region, at, *cell);
        } else {
          check_atomic_after_read(w, lane, region, at, *cell);
        }
      }
      if constexpr (access == Access::atomic) {
        if (!block.reads_beside_atomics.empty()) forget_reads_beside_atomics(w, thread, region, at);
        if (reader == thread && cell->read_epoch >= block.start_epoch) cell->read_epoch = 0;
      }
      if (cell->write_epoch < first)
        w.launch->counters.distinct_written += shared ? 0 : region.shadow.cell_bytes();
      cell->write_epoch = epoch;
      cell->writer = static_cast<uint16_t>(thread | (access == Access::atomic ? Cell::atomic_write : 0));
      cell->write_clock = clock;
    } else {
      if (cell->write_epoch >= concurrent && (writer != thread || cell->write_epoch < block.start_epoch)) {
        check_read_after_write(w, lane, region, at, *cell);
      }
      uint16_t flags = 0;
      if (cell->read_epoch >= first) {
        if (cell->read_epoch < block.start_epoch) {
          flags = Cell::many_blocks | (cell->reader & Cell::other_stream);
        } else {
          flags = cell->reader & (Cell::many_blocks | Cell::other_stream);
          if (cell->read_epoch == epoch) {
            flags |= cell->reader & Cell::many_warps;
            if (reader / warp_size != thread / warp_size) {
              flags |= Cell::many_warps;
            } else if (cell->read_clock == clock) {
              flags |= cell->reader & Cell::many_lanes;
              if (reader != thread) flags |= Cell::many_lanes;
            }
          }
        }
      } else {
        if (cell->read_epoch >= concurrent && unordered_work(cell->read_epoch) != nullptr)
          flags = Cell::other_stream;
        w.launch->counters.distinct_read += shared ? 0 : region.shadow.cell_bytes();
      }
      cell->reader = static_cast<uint16_t>(thread | flags);
      cell->read_epoch = epoch;
      cell->read_clock = clock;
    }
  }
}

// Where the bytes of an access are; region's bounds were checked.
template <Access access>
inline std::byte* checked(Warp& w, uint32_t lane, Region& region, uint64_t address, uint32_t bytes) {
  if ((address & (bytes - 1)) != 0) [[unlikely]]
    misaligned(w, lane, address, bytes, access);
  const size_t at = address - region.begin;
  if (w.launch->check && region.shadow.exists()) {
    if constexpr (access != Access::write) {
      if (!region.shadow.initialised(at, bytes)) [[unlikely]]
        report_uninitialised(w, lane, region, at, bytes);
    }
    if constexpr (access != Access::read) region.shadow.mark(at, bytes, true);
    if (region.shadow.has_cells()) check_cells<access>(w, lane, region, at, bytes);
  } else if (access != Access::read && region.shadow.exists()) {
    region.shadow.mark(at, bytes, true);  // the host's checks still want to know
  }
  return region.bytes + at;
}

template <Access access>
inline std::byte* global_bytes(Warp& w, const Instruction& in, uint32_t lane, uint64_t address,
                               uint32_t bytes) {
  Region* region = in.region;
  if (region == nullptr || !region->holds(address, bytes)) [[unlikely]] {
    region = in.region = &locate(w, in, lane, address, bytes, access);
  }
  return checked<access>(w, lane, *region, address, bytes);
}

template <Access access>
inline std::byte* shared_bytes(Warp& w, const Instruction& in, uint32_t lane, uint64_t offset,
                               uint32_t bytes) {
  Region* region = nullptr;
  for (Region& each : w.launch->shared) {
    if (each.holds(offset, bytes)) {
      region = &each;
      break;
    }
  }
  if (region == nullptr) [[unlikely]]
    region = &locate_shared(w, in, lane, offset, bytes, access);
  return checked<access>(w, lane, *region, offset, bytes);
}

// Counts a warp's access: bytes asked for and 32-byte sectors.
void count_global(Warp& warp, const uint64_t* addresses, uint32_t lanes, uint32_t bytes, Access access);
// Counts extra cycles by lanes that need different words of one bank.
void count_shared(Warp& warp, const uint64_t* offsets, uint32_t lanes, uint32_t bytes);

}  // namespace cudasim
