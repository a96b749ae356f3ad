// How kernels are launched: on the one stream, with as many blocks as the device can run at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/context.h"

namespace tandem::cuda {

inline constexpr int kThreads = 256;  // of a block, unless a kernel has reasons

// Blocks of a grid-stride kernel over `tasks` pieces of work, one a block at a time: at most what is resident
// at once by the occupancy calculator.
template <auto kernel, int threads = kThreads>
unsigned resident_blocks(int64_t tasks, int shared_bytes = 0) {
  static const int per_device = [&] {
    int per_sm = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, reinterpret_cast<const void*>(kernel),
                                                        threads, shared_bytes),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    return std::max(1, per_sm) * properties().multiProcessorCount;
  }();
  return static_cast<unsigned>(std::clamp<int64_t>(tasks, 1, per_device));
}

// The same for one thread a piece of work.
template <auto kernel, int threads = kThreads>
unsigned resident_blocks_of_threads(int64_t tasks) {
  return resident_blocks<kernel, threads>((tasks + threads - 1) / threads);
}

}  // namespace tandem::cuda
