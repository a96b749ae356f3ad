// Shared by the files of the simulated CUDA runtime.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "ptx/module.h"
#include "sim.h"

namespace cudasim {

// One thread at a time uses the device; enqueued work may call the runtime again.
std::recursive_mutex& device_mutex();
using Lock = std::lock_guard<std::recursive_mutex>;

// The first error of the device, which every later call returns.
void set_sticky_error(cudaError_t error);
void clear_sticky_error();
cudaError_t sticky_error();
// Remembers an error for cudaGetLastError, and returns it.
cudaError_t failed(cudaError_t error);
// As the last step of a call: the sticky error if there is one, else `error`.
cudaError_t status(cudaError_t error = cudaSuccess);
// What a call returns where there is no device or driver; cudaSuccess otherwise.
cudaError_t missing_device();

// ---- kernels and variables, by the host's addresses of them
struct Kernel {
  Module* module = nullptr;
  std::string name;
  Function* function = nullptr;  // once the module was scanned
  int max_dynamic_shared = 48 * 1024;
};
Kernel* find_kernel(const void* host);                   // scans its module; nullptr if there is none
uint64_t find_variable(const void* host, size_t& size);  // 0 if there is none
uint32_t static_shared_bytes(Kernel& kernel);            // decodes it
cudaError_t launch_kernel(Kernel& kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                          cudaStream_t stream);

void forget_layouts();  // of kernels that are going

// ---- streams
// Puts work behind what the stream has; into its graph if it is captured.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
// The same, but not into a graph: it runs before the stream's next work, as if it had been there before the
// capture.
cudaError_t submit_beside_capture(cudaStream_t stream, std::function<void()> work);
unsigned long long capture_of(cudaStream_t stream);  // 0: none
void synchronise_device();
// Runs what is in front of the work that was submitted last, and that.
void synchronise_stream(cudaStream_t stream);
// An error if a stream is being captured in a mode that forbids calls such as cudaMalloc.
cudaError_t forbidden_in_capture();
bool is_capturing(cudaStream_t stream);

// Where the bytes of a range on the device are; it lies in one live allocation, or the work ends with a
// report.
std::byte* check_span(const void* device, size_t bytes, const char* who);

}  // namespace cudasim
