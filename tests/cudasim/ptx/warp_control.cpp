// A warp's calls and returns, collectives and barriers.
#include <algorithm>
#include <cstring>

#include "ptx/interpreter.h"

namespace cudasim {

void Warp::branch_table(const Instruction& in, uint32_t lanes) {
  const std::vector<uint32_t>& targets = current.function->branch_tables[in.target];
  const auto* a = row<const uint32_t>(in.a);
  for_lanes(lanes, [&](int lane) {
    if (a[lane] >= targets.size()) {
      abort(
          "invalid branch",
          "index " + std::to_string(a[lane]) + " of a table of " + std::to_string(targets.size()) + " labels",
          static_cast<uint32_t>(lane), cudaErrorInvalidPc);
    }
    leave(1u << lane, targets[a[lane]]);
  });
}

void Warp::trap(const Instruction& in, uint32_t lane) {
  if (in.flags != failed_assertion) abort("trap", "the kernel stopped itself", lane, cudaErrorLaunchFailure);
  const Row* offsets = current.function->row_lists.data() + in.target;
  const auto text = [&](Row offset) {
    uint64_t address;
    std::memcpy(&address, parameter_area(lane) + offset, sizeof address);
    const Region* region = find_region(address, 1);
    if (region == nullptr) return std::string("?");
    const auto* begin = reinterpret_cast<const char*>(region->bytes) + (address - region->begin);
    return std::string(begin, strnlen(begin, region->size - (address - region->begin)));
  };
  uint32_t line;
  std::memcpy(&line, parameter_area(lane) + offsets[2], sizeof line);
  abort("assertion", text(offsets[0]) + " is false, " + text(offsets[1]) + ":" + std::to_string(line), lane,
        cudaErrorAssert);
}

void Warp::call(const Instruction& in, uint32_t lanes) {
  if (lanes == 0) return;
  const Place caller = current;
  const Call& call = caller.function->calls[in.target];
  Place callee;
  callee.function = call.callee;
  callee.frame = caller.frame + caller.function->frame_words;
  callee.local = (caller.local + caller.function->local_bytes + 15) / 16 * 16;
  callee.depth = caller.depth + 1;
  reserve(callee);
  for_lanes(lanes, [&](int lane) {
    const auto l = static_cast<uint32_t>(lane);
    for (const auto& [from, parameter] : call.arguments) {
      const Parameter& p = callee.function->parameters[parameter];
      std::copy_n(parameter_area(caller, l) + from, p.size, parameter_area(callee, l) + p.offset);
    }
    returns_[lane].push_back(caller);
    place[lane] = callee;
  });
}

void Warp::ret(uint32_t lanes) {
  const Place callee = current;
  for_lanes(lanes, [&](int lane) {
    const auto l = static_cast<uint32_t>(lane);
    Place caller = returns_[lane].back();
    returns_[lane].pop_back();
    const Call& call = caller.function->calls[caller.function->code[caller.pc].target];
    if (call.result >= 0) {
      std::copy_n(parameter_area(callee, l) + callee.function->result_offset,
                  std::min(call.result_size, callee.function->result_size),
                  parameter_area(caller, l) + call.result);
    }
    ++caller.pc;
    place[lane] = caller;
  });
}

void Warp::exit(uint32_t lanes) {
  if (lanes == 0) return;
  leave(lanes, current.pc);
  running &= ~lanes;
  exited |= lanes;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(rest));
    if (!async_copies[lane].empty())
      report("race", "the thread exits before its cp.async has arrived", lane, cudaErrorLaunchFailure);
  }
  // Collectives wait for lanes that have not exited only.
  for (uint32_t rest = at_collective; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if ((at_collective >> lane & 1) != 0) complete_collective(place[lane], waiting_for[lane]);
  }
}

// Lanes arrive at an instruction that they execute together with others of their warp, each naming them all.
// True: it was executed for exactly these lanes, which go on. False: the lanes were put at their places.
bool Warp::collective(const Instruction& in, uint32_t lanes) {
  if (lanes == 0) return false;
  const auto* named = row<const uint32_t>(in.e);
  const uint32_t first = named[std::countr_zero(lanes)];
  bool same = true;
  for_lanes(lanes, [&](int lane) { same &= named[lane] == first; });
  if (same && (first & ~exited) == lanes) {
    perform(in, lanes);
    return true;
  }
  leave(lanes, current.pc);
  running &= ~lanes;
  at_collective |= lanes;
  for_lanes(lanes, [&](int lane) {
    waiting_for[lane] = named[lane];
    if ((named[lane] >> lane & 1) == 0) {
      report("warp collective", "the lane is not in the mask " + hex(named[lane]) + " that it names",
             static_cast<uint32_t>(lane), cudaErrorLaunchFailure);
      waiting_for[lane] |= 1u << lane;
    }
  });
  const Place here = current;
  for (uint32_t rest = lanes; rest != 0;)
    rest &= ~complete_collective(here, waiting_for[std::countr_zero(rest)]);
  return false;
}

// Executes a collective if all have come that its lanes named; returns those that wait or waited for it.
uint32_t Warp::complete_collective(Place where, uint32_t mask) {
  uint32_t arrived = 0;
  for (uint32_t rest = at_collective; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (place[lane] == where && waiting_for[lane] == mask) arrived |= 1u << lane;
  }
  if ((mask & ~exited & ~arrived) != 0) return arrived;
  at_collective &= ~arrived;
  running |= arrived;
  enter(where);
  executing = &where.function->code[where.pc];
  perform(*executing, arrived);
  leave(arrived, where.pc + 1);
  return arrived;
}

void Warp::perform(const Instruction& in, uint32_t lanes) {
  in.run(*this, in, lanes);
  if ((in.flags & synchronises_memory) == 0) return;
  uint16_t latest = 0;
  for_lanes(lanes, [&](int lane) { latest = std::max(latest, clock[lane]); });
  if (latest == UINT16_MAX) block->next_epoch();
  for_lanes(lanes,
            [&](int lane) { clock[lane] = static_cast<uint16_t>(latest == UINT16_MAX ? 0 : latest + 1); });
}

void Warp::release_barrier(uint32_t id, uint32_t sum, uint32_t expected) {
  uint32_t lanes = 0;
  for (uint32_t rest = at_barrier; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (waiting_for[lane] == id) lanes |= 1u << lane;
  }
  at_barrier &= ~lanes;
  running |= lanes;
  for_lanes(lanes, [&](int lane) {
    const Instruction& in = instruction_of(static_cast<uint32_t>(lane));
    enter(place[lane]);
    const uint32_t op = in.flags & 255;
    if (op == barrier_popc) {
      row<uint32_t>(in.d)[lane] = sum;
    } else if (op == barrier_and || op == barrier_or) {
      auto* d = row<uint32_t>(in.d);
      const bool result = op == barrier_and ? sum == expected : sum != 0;
      *d = (*d & ~(1u << lane)) | uint32_t{result} << lane;
    }
    ++place[lane].pc;
  });
}

}  // namespace cudasim
