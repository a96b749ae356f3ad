// A warp: 32 lanes, each with its own place in the program. Lanes at the same place are executed together,
// those that are furthest behind first, so that they meet again after a branch.
#include <algorithm>
#include <cstring>

#include "ptx/interpreter.h"

namespace cudasim {
namespace {

constexpr uint32_t no_limit = ~0u;

uint32_t word_of(WarpRow row) { return static_cast<uint32_t>(row) * row_words; }

}  // namespace

void Warp::prepare(Block& owner, uint32_t number) {
  block = &owner;
  launch = &owner.launch;
  index = number;
  rows_.resize(static_cast<size_t>(WarpRow::count));
  base[warp_row] = reinterpret_cast<std::byte*>(rows_.data());
  base[block_row] = reinterpret_cast<std::byte*>(owner.rows.data());
  const dim3 size = launch->block;
  const auto set = [&](WarpRow row, uint32_t lane, uint32_t value) {
    rows_[word_of(row) / row_words].words[lane] = value;
  };
  present = 0;
  for (uint32_t lane = 0; lane < warp_size; ++lane) {
    const uint32_t t = thread(lane), bit = 1u << lane;
    if (t < owner.threads) present |= bit;
    set(WarpRow::tid_x, lane, t % size.x);
    set(WarpRow::tid_y, lane, t / size.x % size.y);
    set(WarpRow::tid_z, lane, t / size.x / size.y);
    set(WarpRow::lane, lane, lane);
    set(WarpRow::warp, lane, index);
    set(WarpRow::mask_eq, lane, bit);
    set(WarpRow::mask_lt, lane, bit - 1);
    set(WarpRow::mask_le, lane, (bit - 1) | bit);
    set(WarpRow::mask_gt, lane, ~((bit - 1) | bit));
    set(WarpRow::mask_ge, lane, ~(bit - 1));
  }
}

void Warp::start() {
  running = present;
  exited = ~present;
  at_barrier = at_collective = 0;
  others_first_ = false;
  Place begin;
  begin.function = launch->kernel;
  reserve(begin);
  for (int lane = 0; lane < warp_size; ++lane) {
    place[lane] = begin;
    clock[lane] = 0;
    returns_[lane].clear();
    async_copies[lane].clear();
    async_groups[lane] = 0;
  }
}

void Warp::reserve(const Place& where) {
  const size_t chunks = (size_t{where.frame} + where.function->frame_words) / row_words;
  if (frames_.size() < chunks) frames_.resize(std::max(chunks, frames_.size() * 2));
  const uint32_t local = where.local + where.function->local_bytes;
  if (local > local_capacity_) {
    if (local > 512 * 1024)
      abort("stack overflow", "more than 512 KiB of local memory", 0, cudaErrorLaunchOutOfResources);
    const uint32_t capacity = std::max(local, local_capacity_ * 2);
    std::vector<std::byte> larger(size_t{capacity} * warp_size, std::byte{0xff});
    for (size_t lane = 0; lane < warp_size && local_capacity_ != 0; ++lane) {
      std::copy_n(local_.begin() + static_cast<ptrdiff_t>(lane * local_capacity_), local_capacity_,
                  larger.begin() + static_cast<ptrdiff_t>(lane * capacity));
    }
    local_ = std::move(larger);
    local_capacity_ = capacity;
  }
  if (where.depth > 4096) abort("stack overflow", "4096 nested calls", 0, cudaErrorLaunchOutOfResources);
}

void Warp::enter(const Place& where) {
  current = where;
  base[frame_row] = reinterpret_cast<std::byte*>(frames_.data()) + size_t{where.frame} * 4;
  base[constant_row] =
      reinterpret_cast<std::byte*>(const_cast<ConstantChunk*>(where.function->constants.data()));
}

std::byte* Warp::parameter_area(const Place& where, uint32_t lane) const {
  return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(frames_.data())) +
         (size_t{where.frame} + where.function->parameter_word) * 4 +
         size_t{lane} * where.function->parameter_area;
}

void Warp::addresses(const Instruction& in, uint64_t* result) const {
  if (in.wide_address) {
    const auto* a = row<const uint64_t>(in.a);
    for (int i = 0; i < warp_size; ++i) result[i] = a[i] + static_cast<uint64_t>(in.offset);
  } else {
    const auto* a = row<const uint32_t>(in.a);
    for (int i = 0; i < warp_size; ++i) result[i] = a[i] + static_cast<uint32_t>(in.offset);
  }
}

std::byte* Warp::local_byte(uint32_t lane, uint64_t offset, uint32_t bytes) {
  const uint64_t end = current.local + current.function->local_bytes;
  if (offset > end || bytes > end - offset) {
    abort("out of bounds",
          "access to local memory at offset " + std::to_string(static_cast<int64_t>(offset)) + " of " +
              std::to_string(end) + " bytes",
          lane, cudaErrorIllegalAddress);
  }
  if (offset % bytes != 0) {
    abort("misaligned",
          "access of " + std::to_string(bytes) + " bytes to local memory at offset " + std::to_string(offset),
          lane, cudaErrorMisalignedAddress);
  }
  return local_.data() + size_t{lane} * local_capacity_ + offset;
}

void Warp::leave(uint32_t lanes, uint32_t pc) {
  Place where = current;
  where.pc = pc;
  for_lanes(lanes, [&](int lane) { place[lane] = where; });
}

// The lanes to be executed next, all at the same place. They may go on together up to `limit`, where others
// wait.
uint32_t Warp::choose(uint32_t& limit) {
  limit = no_limit;
  const auto behind = [](const Place& a,
                         const Place& b) {  // in a deeper call, or earlier in the same function
    if (a.depth != b.depth) return a.depth > b.depth;
    if (a.function != b.function) return a.function < b.function;
    return a.frame != b.frame ? a.frame < b.frame : a.pc < b.pc;
  };
  int best = std::countr_zero(running);
  const Place* first = &place[best];
  bool together = true;
  for (uint32_t rest = running & (running - 1); rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (place[lane] == *first) continue;
    together = false;
    if (behind(place[lane], place[best]) != others_first_) best = lane;
  }
  others_first_ = false;
  uint32_t lanes = running;
  const bool random = launch->order == Order::random;
  if (!together) {
    if (random && (launch->random() & 7) == 0) {  // any other group
      uint32_t rest = running;
      for (uint32_t skip = launch->random() % static_cast<uint32_t>(std::popcount(running)); skip != 0;
           --skip)
        rest &= rest - 1;
      best = std::countr_zero(rest);
    }
    lanes = 0;
    for (uint32_t rest = running; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      const Place &p = place[lane], &b = place[best];
      if (p == b) {
        lanes |= 1u << lane;
      } else if (p.function == b.function && p.frame == b.frame && p.pc > b.pc) {
        limit = std::min(limit, p.pc);
      }
    }
  }
  const Place where = place[best];
  if (random && (launch->random() & 15) == 0) {  // some of them first
    const uint32_t some = lanes & launch->random();
    if (some != 0 && some != lanes) {
      lanes = some;
      slice_ = std::min<uint64_t>(slice_, 1 + (launch->random() & 31));
    }
  }
  enter(where);
  return lanes;
}

void Warp::run(uint64_t slice) {
  slice_ = slice;
  while (running != 0) {
    uint32_t limit;
    const uint32_t lanes = choose(limit);
    run_group(lanes, limit);
    if (slice_ == 0) {
      others_first_ = true;
      return;
    }
  }
}

void Warp::run_group(uint32_t lanes, uint32_t limit) {
  const Instruction* code = current.function->code.data();
  LaunchCounters& counters = launch->counters;
  uint32_t pc = current.pc;
  for (;;) {
    const Instruction& in = code[pc];
    uint32_t m = lanes;
    if (in.guard != no_row) {
      const uint32_t p = *row<uint32_t>(in.guard);
      m &= in.guard_negated ? ~p : p;
    }
    if (in.counted) {
      ++counters.warp_instructions;
      counters.lane_instructions += static_cast<uint32_t>(std::popcount(lanes));
      counters.flops += uint64_t{static_cast<uint32_t>(std::popcount(m))} * in.flops;
    }
    current.pc = pc;
    executing = &in;
    switch (in.kind) {
      case Kind::plain:
        if (m != 0) in.run(*this, in, m);
        ++pc;
        break;
      case Kind::memory:
        if (m != 0) in.run(*this, in, m);
        ++pc;
        if (slice_ > 0 && --slice_ == 0) return leave(lanes, pc);
        break;
      case Kind::branch:
        if (m == lanes) {
          if (in.target <= pc && counters.warp_instructions > launch->budget) {
            abort("instruction budget",
                  "more than " + std::to_string(launch->budget) +
                      " instructions in one launch: does the kernel end?",
                  static_cast<uint32_t>(std::countr_zero(m)), cudaErrorLaunchTimeout);
          }
          pc = in.target;
        } else if (m == 0) {
          ++pc;
        } else {
          leave(m, in.target);
          return leave(lanes & ~m, pc + 1);
        }
        break;
      case Kind::branch_table:
        leave(lanes & ~m, pc + 1);
        return branch_table(in, m);
      case Kind::call:
        leave(lanes & ~m, pc + 1);
        return call(in, m);
      case Kind::ret:
        leave(lanes & ~m, pc + 1);
        return ret(m);
      case Kind::exit:
        leave(lanes & ~m, pc + 1);
        return exit(m);
      case Kind::barrier:
        leave(lanes & ~m, pc + 1);
        leave(m, pc);
        if (m != 0) block->arrive(*this, in, m);
        return;
      case Kind::collective:
        if (m != lanes) {
          leave(lanes & ~m, pc + 1);
          leave(m, pc);
          collective(in, m);
          return;
        }
        if (!collective(in, m)) return;
        ++pc;
        break;
      case Kind::trap:
        if (m != 0) trap(in, static_cast<uint32_t>(std::countr_zero(m)));
        ++pc;
        break;
    }
    if (pc >= limit) return leave(lanes, pc);
  }
}

}  // namespace cudasim
