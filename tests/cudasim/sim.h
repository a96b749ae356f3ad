// The simulated device as seen by tests and by the simulated libraries (cuBLAS, cuDNN).
//
// Device pointers are addresses that nothing is mapped at, so host code that follows one stops with a
// message. The bytes are elsewhere: check_read and check_write say where. A library call looks like this:
//
//   cublasStatus_t cublasSscal(cublasHandle_t handle, int n, const float* alpha, float* x, int incx) {
//     ... check what the real one checks at the call, and read host arguments (*alpha) ...
//     return status(cudasim::enqueue(handle->stream, "cublasSscal", [=, alpha = *alpha] {
//       auto* data = static_cast<float*>(cudasim::check_update(x, n * sizeof(float), "cublasSscal: x"));
//       for (int i = 0; i < n; ++i) data[i] *= alpha;
//     }));
//   }
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/options.h"

namespace cudasim {

// ---- work on streams -------------------------------------------------------------------------------------

// Puts work on a stream, or into the graph that the stream is being captured into: it may run later, never,
// or several times, so it owns (copies) what it needs of the host's arguments. Returns the sticky error if
// there is one.
cudaError_t enqueue(cudaStream_t stream, const char* who, std::function<void()> work);

// ---- device memory, inside of enqueued work --------------------------------------------------------------

// Each returns where host code finds the bytes of [device, device + bytes). The range must lie in one live
// allocation; for a read it must be initialised. A violation is reported with `who` and ends the work by an
// exception that the stream catches (the device then has a sticky error). bytes == 0 is always right and may
// give nullptr.
const void* check_read(const void* device, size_t bytes, const char* who);
void* check_write(void* device, size_t bytes, const char* who);   // marks the bytes initialised
void* check_update(void* device, size_t bytes, const char* who);  // read and written

// `rows` runs of `row_bytes`, their starts `stride` bytes apart (a matrix with a leading dimension). Only
// those bytes are looked at: padding between rows may be uninitialised, and stays so. Strides may be any sign
// or 0 for reads.
const void* check_read_rows(const void* device, size_t rows, size_t row_bytes, ptrdiff_t stride,
                            const char* who);
void* check_write_rows(void* device, size_t rows, size_t row_bytes, ptrdiff_t stride, const char* who);
void* check_update_rows(void* device, size_t rows, size_t row_bytes, ptrdiff_t stride, const char* who);

// The bytes lose their values: reading them before they are written is reported. For workspaces and freed
// blocks.
void mark_uninitialised(void* device, size_t bytes);

// Is this an address of device memory (live or not)? For arguments that must, or must not, be on the device.
bool is_device_pointer(const void* pointer);
// Bytes from `pointer` to the end of its live allocation; 0 if it is in none.
size_t bytes_behind(const void* pointer);

// ---- reports ---------------------------------------------------------------------------------------------

struct Report {
  std::string kind;     // "out of bounds", "race", "uninitialised read", "barrier", ...
  std::string message;  // everything: what, kernel, source line, thread, address, allocation
};

// Files a report; the next synchronising call of the runtime then returns `error` (sticky, as on a device).
void report(const std::string& kind, const std::string& message, cudaError_t error = cudaErrorLaunchFailure);
const std::vector<Report>& reports();  // since the last reset
// Forgets reports and the sticky error; allocations, streams and modules stay. For tests of the checks
// themselves.
void reset_reports();

// Live allocations of cudaMalloc and pinned host memory, one line each, with the call's number: leaks, at a
// test's end.
std::vector<std::string> live_allocations();

// How often the host has waited for a stream, an event or the device since the program started.
uint64_t waits();

// ---- kernels ---------------------------------------------------------------------------------------------

// Parses every kernel of every loaded module now rather than at its first launch. Throws std::runtime_error
// naming each instruction that the simulator does not know. Returns how many kernels and functions there are.
size_t check_all_kernels();

struct LaunchCounters {
  std::string kernel;  // demangled, without parameters
  std::string symbol;  // mangled
  dim3 grid, block;
  size_t static_shared = 0, dynamic_shared = 0;
  uint64_t lane_instructions = 0, warp_instructions = 0;  // lanes: those that were active
  uint64_t flops = 0;  // f32 and f64 arithmetic, a fused multiply-add counts 2
  // Of global memory, as asked for by the instructions; what several lanes of a warp read at once counts
  // once.
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t distinct_read = 0, distinct_written = 0;  // bytes, each counted once however often it is touched
  uint64_t read_sectors = 0, written_sectors = 0;    // of 32 bytes, per warp instruction
  uint64_t reused_bytes = 0;                         // reads of count_reused(), which are in no other counter
  uint64_t shared_accesses = 0;                      // warp instructions that access shared memory
  uint64_t bank_conflicts = 0;                       // extra cycles in them
  uint64_t barriers = 0;
};

// While on, each launch adds its counters to a list; turning it on empties the list.
void record_launches(bool on);
const std::vector<LaunchCounters>& recorded_launches();

// Bytes of the operands and results of all products of the simulated cuBLAS since the program started, each
// once a product.
uint64_t product_bytes();

// Reads of these bytes are counted apart: an operand that all rows use, and that caches keep. Null forgets
// all.
void count_reused(const void* device, size_t bytes);

}  // namespace cudasim
