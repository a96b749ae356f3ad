#include "cuda/context.h"

#include "autograd/error.h"
#include "autograd/scope.h"
#include "cuda/allocator.h"

namespace tandem::cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // an error that is not sticky must not be seen again by the next call
  raise<DeviceError>("{}: cuda: {}: {} ({})", OpScope::current(), call, cudaGetErrorString(status),
                     cudaGetErrorName(status));
}

const cudaDeviceProp& properties() {
  static const cudaDeviceProp found = [] {
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, 0), "cudaGetDeviceProperties");
    return p;
  }();
  return found;
}

cudaStream_t stream() {
  static const cudaStream_t made = [] {
    cudaStream_t s;
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return s;
  }();
  return made;
}

Scratch::Scratch(int64_t bytes) : data_(allocator().allocate(bytes)), bytes_(bytes) {}
Scratch::~Scratch() { allocator().release(data_, bytes_); }

}  // namespace tandem::cuda
