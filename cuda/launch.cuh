// How kernels are launched: on the one stream, with as many blocks as the device can run at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/context.h"

namespace tandem::cuda {

// The launch that was just made. Inline: a library of its own has a CUDA runtime of its own, with its errors.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

inline constexpr int kThreads = 256;  // of a block, unless a kernel has reasons

// Bytes of shared memory that a launch may ask for, beside a little that a kernel has of its own.
inline constexpr int64_t kOwnShared = 4096;
inline int64_t shared_limit() {
  return static_cast<int64_t>(properties().sharedMemPerBlockOptin) - kOwnShared;
}

// Blocks of a grid-stride kernel over `tasks` pieces of work, one a block at a time: at most what is resident
// at once by the occupancy calculator. Lets the kernel have the shared memory that it will be launched with.
template <auto kernel, int threads = kThreads>
unsigned resident_blocks(int64_t tasks, int64_t shared_bytes = 0) {
  struct Found {
    int64_t shared_bytes = -1;
    int blocks = 0;
  };
  thread_local Found last;
  if (last.shared_bytes != shared_bytes) {
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (shared_bytes > 48 * 1024 - kOwnShared)  // more than every kernel has without asking
      check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_limit())),
            "cudaFuncSetAttribute");
    int per_sm = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, function, threads, shared_bytes),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    last = {shared_bytes, std::max(1, per_sm) * properties().multiProcessorCount};
  }
  return static_cast<unsigned>(std::clamp<int64_t>(tasks, 1, last.blocks));
}

// The same for one thread a piece of work.
template <auto kernel, int threads = kThreads>
unsigned resident_blocks_of_threads(int64_t tasks) {
  return resident_blocks<kernel, threads>((tasks + threads - 1) / threads);
}

}  // namespace tandem::cuda
