// A block: the order in which its warps run, its barriers, its shared memory; and the grid of blocks.
#include <algorithm>
#include <map>
#include <numeric>

#include "ptx/interpreter.h"
#include "runtime/stream_order.h"

namespace cudasim {
namespace {

constexpr std::byte poison{0xff};

}  // namespace

Block::Block(Launch& owner) : launch(owner) {
  threads = launch.block.x * launch.block.y * launch.block.z;
  rows.resize(static_cast<size_t>(BlockRow::count));
  memory.resize((launch.shared_bytes + sizeof(ConstantChunk) - 1) / sizeof(ConstantChunk));
  for (Region& region : launch.shared)
    region.bytes = reinterpret_cast<std::byte*>(memory.data()) + region.begin;
  const uint32_t count = (threads + warp_size - 1) / warp_size;
  const auto set = [&](BlockRow row, uint32_t value) {
    std::fill_n(rows[static_cast<size_t>(row)].words, row_words, value);
  };
  set(BlockRow::ntid_x, launch.block.x);
  set(BlockRow::ntid_y, launch.block.y);
  set(BlockRow::ntid_z, launch.block.z);
  set(BlockRow::nctaid_x, launch.grid.x);
  set(BlockRow::nctaid_y, launch.grid.y);
  set(BlockRow::nctaid_z, launch.grid.z);
  set(BlockRow::warps, count);
  set(BlockRow::dynamic_shared, launch.dynamic_shared);
  set(BlockRow::total_shared, launch.static_shared + launch.dynamic_shared);
  set(BlockRow::zero, 0);
  static auto& pool = *new std::vector<Warp>;  // their memory is used by one launch after another
  if (pool.size() < count) pool.resize(count);
  warps = std::span(pool).first(count);
  for (uint32_t i = 0; i < count; ++i) warps[i].prepare(*this, i);
}

void Block::next_epoch() { epoch = take_epoch(); }

std::string Block::thread_name(uint32_t thread) const {
  const dim3 size = launch.block, at = coordinates;
  std::string text = "block (";
  for (const uint32_t c : {at.x, at.y, at.z}) text.append(std::to_string(c)).append(",");
  text.back() = ')';
  text.append(" thread (");
  for (const uint32_t c : {thread % size.x, thread / size.x % size.y, thread / size.x / size.y}) {
    text.append(std::to_string(c)).append(",");
  }
  text.back() = ')';
  return text;
}

// The next warp in order, from the one at `first_` on.
Warp* Block::pick() {
  const auto count = static_cast<uint32_t>(warps.size());
  if (launch.order == Order::random) first_ = launch.random() % count;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t at = (first_ + i) % count;
    Warp& warp = warps[launch.order == Order::reverse ? count - 1 - at : at];
    if (warp.runnable()) {
      first_ = at;
      return &warp;
    }
  }
  return nullptr;
}

void Block::run(uint32_t linear_index) {
  index = linear_index;
  coordinates = dim3(index % launch.grid.x, index / launch.grid.x % launch.grid.y,
                     index / launch.grid.x / launch.grid.y);
  const auto set = [&](BlockRow row, uint32_t value) {
    std::fill_n(rows[static_cast<size_t>(row)].words, row_words, value);
  };
  set(BlockRow::ctaid_x, coordinates.x);
  set(BlockRow::ctaid_y, coordinates.y);
  set(BlockRow::ctaid_z, coordinates.z);
  next_epoch();
  start_epoch = epoch;
  launch.block_epochs.push_back(epoch);
  launch.block_order.push_back(index);
  fence_pending = acquired = false;
  reads_beside_atomics.clear();
  first_ = 0;
  for (Region& region : launch.shared) {
    std::fill_n(region.bytes, region.size, poison);
    region.shadow.mark(0, region.size, false);
  }
  for (Barrier& barrier : barriers_) barrier = {};
  for (Warp& warp : warps) warp.start();
  for (;;) {
    Warp* warp = pick();
    if (warp == nullptr) {
      if (std::all_of(warps.begin(), warps.end(), [](const Warp& w) { return w.finished(); })) break;
      complete_without_exited();
      if (pick() == nullptr) deadlock();
      continue;
    }
    // A warp runs until it waits. One that accesses memory again and again may wait for what another writes
    // there.
    constexpr uint64_t patience = 1 << 16;
    warp->run(launch.order == Order::random ? 1 + (launch.random() & 63) : patience);
    first_ = warp->runnable() ? first_ + 1 : 0;
  }
  report_reads_beside_atomics();
}

void Block::arrive(Warp& warp, const Instruction& in, uint32_t lanes) {
  const auto* ids = warp.row<const uint32_t>(in.a);
  const auto* counts = in.b == no_row ? nullptr : warp.row<const uint32_t>(in.b);
  const auto first = static_cast<uint32_t>(std::countr_zero(lanes));
  const uint32_t id = ids[first], op = in.flags & 255;
  if (id >= 16)
    warp.abort("barrier", "there is no barrier " + std::to_string(id), first, cudaErrorIllegalInstruction);
  Barrier& barrier = barriers_[id];
  const uint32_t expected = counts == nullptr ? threads : counts[first];
  if (barrier.expected == 0) {
    barrier.expected = expected;
    barrier.first = &in;
  } else if (barrier.first != &in && counts == nullptr && op == barrier_sync) {
    warp.report("divergent barrier",
                "threads of one block meet at different __syncthreads: others wait at " +
                    source_of(*warp.current.function, *barrier.first),
                first, cudaErrorLaunchFailure);
  }
  barrier.arrived += static_cast<uint32_t>(std::popcount(lanes));
  if (op >= barrier_popc) {
    const uint32_t p = *warp.row<uint32_t>(in.c) ^ ((in.flags & barrier_negated) != 0 ? ~0u : 0);
    barrier.count_true += static_cast<uint32_t>(std::popcount(p & lanes));
  }
  if (op == barrier_arrive) {
    for_lanes(lanes, [&](int lane) { ++warp.place[lane].pc; });
  } else {
    warp.running &= ~lanes;
    warp.at_barrier |= lanes;
    for_lanes(lanes, [&](int lane) { warp.waiting_for[lane] = id; });
  }
  if (barrier.arrived >= barrier.expected) complete(id);
}

void Block::complete(uint32_t id) {
  const Barrier barrier = barriers_[id];
  barriers_[id] = {};
  ++launch.counters.barriers;
  next_epoch();
  for (Warp& warp : warps) {
    std::fill_n(warp.clock, warp_size, uint16_t{0});
    warp.release_barrier(id, barrier.count_true, barrier.expected);
  }
}

uint32_t Block::exited_threads() const {
  uint32_t result = 0;
  for (const Warp& warp : warps) result += static_cast<uint32_t>(std::popcount(warp.exited & warp.present));
  return result;
}

// Nothing can run. Threads that exited will never come to a barrier: a device lets the others pass.
void Block::complete_without_exited() {
  const uint32_t gone = exited_threads();
  for (uint32_t id = 0; id < 16; ++id) {
    Barrier& barrier = barriers_[id];
    if (barrier.expected == 0 || barrier.arrived + gone < barrier.expected || gone == 0) continue;
    for (Warp& warp : warps) {
      if (warp.at_barrier == 0) continue;
      const auto lane = static_cast<uint32_t>(std::countr_zero(warp.at_barrier));
      warp.current = warp.place[lane];
      warp.executing = &warp.instruction_of(lane);
      warp.report("divergent barrier",
                  std::to_string(gone) + " threads of the block have exited and never come to it", lane,
                  cudaErrorLaunchFailure);
      break;
    }
    complete(id);
    return;
  }
}

void Block::deadlock() {
  struct Wait {
    const Function* function;
    uint32_t threads, first, lanes;
    bool collective;
  };
  std::map<const Instruction*, Wait> waits;
  uint32_t waiting = 0;
  for (Warp& warp : warps) {
    for (uint32_t rest = warp.at_barrier | warp.at_collective; rest != 0; rest &= rest - 1) {
      const auto lane = static_cast<uint32_t>(std::countr_zero(rest));
      const bool collective = (warp.at_collective >> lane & 1) != 0;
      Wait& wait = waits
                       .try_emplace(&warp.instruction_of(lane),
                                    Wait{warp.place[lane].function, 0, warp.thread(lane),
                                         warp.waiting_for[lane] & ~warp.exited, collective})
                       .first->second;
      ++wait.threads;
      ++waiting;
    }
  }
  std::string text = "deadlock: " + std::to_string(waiting) + " threads wait, " +
                     std::to_string(exited_threads()) + " have exited";
  const std::pair<const Instruction* const, Wait>* worst = nullptr;
  for (const auto& entry : waits) {
    const auto& [in, wait] = entry;
    text += "; " + std::to_string(wait.threads) + " wait at " + source_of(*wait.function, *in);
    if (wait.collective) text += " for lanes " + hex(wait.lanes);
    if (worst == nullptr || (wait.collective && !worst->second.collective)) worst = &entry;
  }
  Warp& warp = warps[worst->second.first / warp_size];
  const uint32_t lane = worst->second.first % warp_size;
  warp.current = warp.place[lane];
  warp.executing = worst->first;
  warp.abort(worst->second.collective ? "warp collective" : "divergent barrier", text, lane,
             cudaErrorLaunchTimeout);
}

void execute(Launch& launch) {
  launch.first_epoch = take_epoch();
  launch.concurrent_from = concurrent_from();
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  Block block(launch);
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (launch.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (launch.order == Order::random) std::shuffle(order.begin(), order.end(), launch.random);
  for (const uint32_t index : order) block.run(index);
}

}  // namespace cudasim
