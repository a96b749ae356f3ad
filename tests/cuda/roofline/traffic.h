// What kernels move: the bytes that a piece of work must read and write at least, beside those that its
// kernels ask for when they run on the simulated device, which counts them.
//
// The minimum follows from shapes: every input is read once, every output written once. Counted is what the
// instructions of all launches together ask of global memory; what several lanes of a warp ask for at once
// counts once. Operands that all rows share (weights, biases) stay in caches: both sides have them once.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem::roofline {

// All launches of one kernel.
struct KernelTraffic {
  std::string name, symbol;  // readable, without types; mangled
  std::string typed_name;    // readable, with the arguments of its template
  int launches = 0;
  uint64_t bytes = 0, sectors = 0;                 // of global memory; of 32 bytes
  uint64_t distinct = 0;                           // bytes, each counted once a launch; 0: without its checks
  uint64_t instructions = 0;                       // of warps
  uint64_t conflicts = 0;                          // extra cycles of shared memory
  int threads = 0;                                 // of a block
  uint64_t static_shared = 0, dynamic_shared = 0;  // of a block, bytes
};

struct Traffic {
  double minimum = 0, counted = 0;  // bytes
  uint64_t sectors = 0, conflicts = 0, instructions = 0;
  int launches = 0;
  std::vector<KernelTraffic> kernels = {};

  double ratio() const { return counted / minimum; }
  // Of the bytes of all sectors that were touched, the part that was asked for.
  double sector_use() const;
};

// Work that is ready to be counted.
struct PreparedWork {
  std::function<void()> run;
  double minimum = 0;   // bytes
  Tensors shared = {};  // the operands that all rows use
};

struct Workload {
  std::string name;
  double allowed;  // counted / minimum that is asked for; 0: it is only looked at
  std::function<PreparedWork()> prepare;
};

// Work of every kind that is bound by memory. `scale` divides the number of rows: 1 for figures, more for
// tests.
std::vector<Workload> traffic_workloads(Device device, int64_t scale = 1);

// What was recorded since cudasim::record_launches(true), by kernel, in the order of their first launches.
std::vector<KernelTraffic> recorded_kernels();

// Runs the work once on the simulated device, which must be loaded.
Traffic measure_traffic(const Workload& workload);

}  // namespace tandem::roofline
