// How kernels are launched: on the one stream, with as many blocks as the device can run at once.
//
//   cuda::launch<dropout_kernel<float>>("dropout", cuda::threads_for(count), args, per_row);
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/context.h"

namespace tandem::cuda {

inline constexpr int kThreads = 256;  // of a block, unless a kernel has reasons

// Bytes of shared memory that a launch may ask for, beside a little that a kernel has of its own.
inline constexpr int64_t kOwnShared = 4096;
inline int64_t shared_limit() {
  return static_cast<int64_t>(properties().sharedMemPerBlockOptin) - kOwnShared;
}

// Exactly these blocks.
struct Grid {
  dim3 blocks, threads;
  int64_t shared_bytes = 0;  // of dynamic shared memory, for each block
};

// Blocks that loop over `tasks` pieces of work, one at a time: as many as are resident at once by the
// occupancy calculator, or fewer where there is less work.
template <int threads = kThreads> struct ResidentBlocks {
  int64_t tasks;
  int64_t shared_bytes = 0;
};

inline ResidentBlocks<> blocks_for(int64_t tasks) { return {tasks}; }
// The same where a task is a thread's: for kernels of grid_stride_loop().
inline ResidentBlocks<> threads_for(int64_t tasks) { return {(tasks + kThreads - 1) / kThreads}; }

// Of a kernel, as last asked for.
struct Occupancy {
  int64_t shared_bytes = -1;
  int blocks = 0;
};

// Static, as all that calls the runtime is static or a template of the kernel: a library of users' kernels
// has a runtime of its own, which alone knows them.
[[gnu::noinline]] static inline Occupancy find_occupancy(const void* kernel, int threads,
                                                         int64_t shared_bytes) {
  if (shared_bytes > 48 * 1024 - kOwnShared)  // more than every kernel has without asking
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_limit())),
          "cudaFuncSetAttribute");
  int per_sm = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, threads, shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return {shared_bytes, std::max(1, per_sm) * properties().multiProcessorCount};
}

// How many blocks ResidentBlocks are; at least 1. The kernel may have the shared memory from then on.
template <auto kernel, int threads = kThreads>
unsigned resident_blocks(int64_t tasks, int64_t shared_bytes = 0) {
  thread_local Occupancy last;
  if (last.shared_bytes != shared_bytes)
    last = find_occupancy(reinterpret_cast<const void*>(kernel), threads, shared_bytes);
  return static_cast<unsigned>(std::clamp<int64_t>(tasks, 1, last.blocks));
}

// Launches the kernel on stream(); DeviceError naming `what` and the running op when it cannot be launched.
template <auto kernel, class... Args> void launch(const char* what, const Grid& grid, const Args&... args) {
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes, stream()>>>(args...);
  check(cudaGetLastError(), what);
}

// The same; nothing is launched for no work.
template <auto kernel, int threads, class... Args>
void launch(const char* what, const ResidentBlocks<threads>& blocks, const Args&... args) {
  if (blocks.tasks == 0) return;
  const unsigned count = resident_blocks<kernel, threads>(blocks.tasks, blocks.shared_bytes);
  launch<kernel>(what, Grid{count, threads, blocks.shared_bytes}, args...);
}

// Calls body(i) for i < count, one thread each, in a grid of any number of blocks.
template <class Body> __device__ void grid_stride_loop(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) body(i);
}

}  // namespace tandem::cuda
