// A kernel's launch, its blocks and their warps while they are executed.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "memory/device_memory.h"
#include "ptx/decoder.h"
#include "ptx/module.h"
#include "runtime/random.h"
#include "sim.h"

namespace cudasim {

// Ends a launch after something that a device would not survive, which was reported.
struct LaunchAborted {};

class Block;

// Of Kind::barrier and Kind::collective instructions, in their flags.
enum BarrierFlags : uint32_t {
  barrier_sync,
  barrier_arrive,
  barrier_popc,
  barrier_and,
  barrier_or,
  barrier_negated = 256
};
constexpr uint32_t synchronises_memory = 1u << 31;
constexpr uint32_t strong_access = 1;     // of Kind::memory: volatile, relaxed and the like
constexpr uint32_t failed_assertion = 1;  // of Kind::trap; its row list has the parameters' offsets

struct Launch {
  const Function* kernel = nullptr;
  dim3 grid, block;
  uint32_t static_shared = 0, dynamic_shared = 0;
  std::vector<std::byte> parameters;
  std::span<Region> shared;   // layout of a block's shared memory; `begin` is the offset in it
  uint32_t shared_bytes = 0;  // of the layout, with what separates the arrays

  LaunchCounters counters;
  Order order = Order::forward;
  bool check = true;
  uint64_t budget = 0;
  Random random;
  std::set<std::pair<std::string, const Instruction*>> reported;

  uint32_t first_epoch = 0;            // barriers are counted from here
  uint32_t concurrent_from = 0;        // accesses of epochs before this are ordered before the launch
  std::vector<uint32_t> block_epochs;  // at which each block that ran began, and
  std::vector<uint32_t> block_order;   // which block it was
  // Communication between blocks by __threadfence and an atomic: the last epoch that a block published.
  bool any_release = false;
  std::vector<uint32_t> released;  // by block; 0: nothing
};

struct Place {
  const Function* function = nullptr;
  uint32_t pc = 0;
  uint32_t frame = 0;  // offset of its registers, in words
  uint32_t local = 0;  // offset of its local variables, in bytes
  uint32_t depth = 0;  // of calls
  bool operator==(const Place&) const = default;
};

// What a lane has asked for by cp.async, on its way to shared memory.
struct AsyncCopy {
  uint64_t group;   // of the thread's copies
  uint64_t offset;  // in shared memory
  uint32_t bytes;
  std::byte data[16] = {};
};

class Warp {
 public:
  void prepare(Block& block, uint32_t index);  // once per launch
  void start();                                // once per block

  // Runs lanes until none can go on, or for about `slice` instructions.
  void run(uint64_t slice);
  bool runnable() const { return running != 0; }
  bool finished() const { return exited == ~0u; }
  // Lanes that wait at a barrier go on. `sum` is what a reduction among `expected` threads counted.
  void release_barrier(uint32_t id, uint32_t sum, uint32_t expected);

  template <class T> T* row(Row r) const {
    return reinterpret_cast<T*>(base[r >> 30] + size_t{r & 0x3fffffffu} * 4);
  }
  // The bytes of a lane's parameter area in the current frame.
  std::byte* parameter_area(uint32_t lane) const { return parameter_area(current, lane); }
  void addresses(const Instruction& instruction, uint64_t* result) const;  // of all lanes
  std::byte* local_byte(uint32_t lane, uint64_t offset, uint32_t bytes);

  // Files a report about the instruction that is being executed, by a lane.
  void report(const std::string& kind, const std::string& message, uint32_t lane, cudaError_t error);
  [[noreturn]] void abort(const std::string& kind, const std::string& message, uint32_t lane,
                          cudaError_t error);
  uint32_t thread(uint32_t lane) const { return index * warp_size + lane; }
  const Instruction& instruction_of(uint32_t lane) const {
    return place[lane].function->code[place[lane].pc];
  }

  std::byte* base[4] = {};
  Block* block = nullptr;
  Launch* launch = nullptr;
  uint32_t index = 0;
  uint32_t present = 0;  // lanes that are threads of the block
  // Each lane is in one of these.
  uint32_t running = 0, at_barrier = 0, at_collective = 0, exited = 0;
  Place place[warp_size];                // of lanes that are not being executed just now
  Place current;                         // of those that are
  uint16_t clock[warp_size] = {};        // counts __syncwarp since the block's last barrier
  uint32_t waiting_for[warp_size] = {};  // at a barrier: its number; at a collective: the lanes it names
  const Instruction* executing = nullptr;
  std::vector<AsyncCopy> async_copies[warp_size];  // not waited for yet
  uint64_t async_groups[warp_size] = {};           // that were committed

 private:
  std::byte* parameter_area(const Place& where, uint32_t lane) const;
  uint32_t choose(uint32_t& limit);
  void enter(const Place& where);
  void run_group(uint32_t lanes, uint32_t limit);
  void leave(uint32_t lanes, uint32_t pc);
  void branch_table(const Instruction& instruction, uint32_t lanes);
  void call(const Instruction& instruction, uint32_t lanes);
  void ret(uint32_t lanes);
  void exit(uint32_t lanes);
  [[noreturn]] void trap(const Instruction& instruction, uint32_t lane);
  bool collective(const Instruction& instruction, uint32_t lanes);
  uint32_t complete_collective(Place where, uint32_t mask);
  void perform(const Instruction& instruction, uint32_t lanes);
  void reserve(const Place& where);

  std::vector<ConstantChunk> frames_, rows_;
  std::vector<std::byte> local_;
  uint32_t local_capacity_ = 0;  // of one lane
  uint64_t slice_ = 0;           // instructions left
  bool others_first_ = false;    // lanes ran for long and may wait for others of their warp
  std::vector<Place> returns_[warp_size];
};

// A plain read that is not ordered with atomic operations of others: right only as the first read of a loop
// of compare-and-swap, where an atomic operation of the same thread follows.
struct ReadBesideAtomic {
  const Region* region;
  size_t at;
  uint32_t thread;
  const Instruction* instruction;
  const Function* function;
};

struct Barrier {
  uint32_t expected = 0;  // threads; 0: nobody is waiting
  uint32_t arrived = 0;
  uint32_t count_true = 0;             // of bar.red
  const Instruction* first = nullptr;  // where the first thread waits
};

// One block after another uses the same Block.
class Block {
 public:
  explicit Block(Launch& launch);
  void run(uint32_t linear_index);

  void report_reads_beside_atomics();
  // Lanes of a warp, at the same instruction, come to a barrier.
  void arrive(Warp& warp, const Instruction& instruction, uint32_t lanes);
  void next_epoch();
  std::string thread_name(uint32_t thread) const;  // with its block

  Launch& launch;
  uint32_t index = 0;  // linear
  dim3 coordinates;
  uint32_t threads = 0;
  uint32_t start_epoch = 0, epoch = 0;
  bool fence_pending = false;  // a __threadfence since the last atomic
  bool acquired = false;       // saw an atomic after others had published
  std::vector<ReadBesideAtomic> reads_beside_atomics;
  std::vector<ConstantChunk> rows;
  std::vector<ConstantChunk> memory;  // shared
  std::span<Warp> warps;

 private:
  void complete(uint32_t id);
  void complete_without_exited();
  [[noreturn]] void deadlock();
  uint32_t exited_threads() const;
  Warp* pick();

  Barrier barriers_[16];
  uint32_t first_ = 0;  // where the search for a warp begins
};

std::string hex(uint64_t value);

// Runs a whole grid.
void execute(Launch& launch);

template <class F> inline void for_lanes(uint32_t lanes, F&& f) {
  if (lanes == ~0u) {
#ifndef __clang__
#pragma GCC ivdep  // rows are the same or apart
#endif
    for (int i = 0; i < warp_size; ++i) f(i);
  } else {
    for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
  }
}

}  // namespace cudasim
