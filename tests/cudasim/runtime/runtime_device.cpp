// The device, its errors, and what is known about kernels.
#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/runtime.h"

namespace cudasim {
namespace {

cudaError_t device_error = cudaSuccess;
thread_local cudaError_t last_error = cudaSuccess;

// A device of compute capability 9.0.
constexpr int threads_per_multiprocessor = 2048, blocks_per_multiprocessor = 32;
constexpr int registers_per_multiprocessor = 65536, shared_per_multiprocessor = 228 * 1024;
constexpr int largest_shared = 227 * 1024, reserved_shared = 1024;

struct ErrorName {
  cudaError_t error;
  const char *name, *text;
};
#define ERROR(name, text) \
  { name, #name, text }
constexpr std::array errors = {
    ErrorName ERROR(cudaSuccess, "no error"),
    ErrorName ERROR(cudaErrorInvalidValue, "invalid argument"),
    ErrorName ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ErrorName ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ErrorName ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    ErrorName ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ErrorName ERROR(cudaErrorInsufficientDriver,
                    "CUDA driver version is insufficient for CUDA runtime version"),
    ErrorName ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
    ErrorName ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ErrorName ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ErrorName ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ErrorName ERROR(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    ErrorName ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ErrorName ERROR(cudaErrorNotReady, "device not ready"),
    ErrorName ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ErrorName ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ErrorName ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    ErrorName ERROR(cudaErrorAssert, "device-side assert triggered"),
    ErrorName ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    ErrorName ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    ErrorName ERROR(cudaErrorInvalidPc, "invalid program counter"),
    ErrorName ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ErrorName ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ErrorName ERROR(cudaErrorStreamCaptureInvalidated,
                    "operation failed due to a previous error during capture"),
    ErrorName ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    ErrorName ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ErrorName ERROR(cudaErrorStreamCaptureIsolation,
                    "dependency created on uncaptured work in another stream"),
    ErrorName ERROR(cudaErrorStreamCaptureImplicit,
                    "operation would make the legacy stream depend on a capturing blocking stream"),
    ErrorName ERROR(cudaErrorCapturedEvent,
                    "operation not permitted on an event last recorded in a capturing stream"),
    ErrorName ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    ErrorName ERROR(cudaErrorUnknown, "unknown error")};
#undef ERROR

const ErrorName* find(cudaError_t error) {
  const auto it =
      std::find_if(errors.begin(), errors.end(), [&](const ErrorName& e) { return e.error == error; });
  return it == errors.end() ? nullptr : &*it;
}

int registers_of(const Kernel& kernel) {
  const auto it = options().register_table.find(kernel.name);
  return it == options().register_table.end() ? options().registers : it->second;
}

int round_up(int value, int to) { return (value + to - 1) / to * to; }

int blocks_that_fit(Kernel& kernel, int threads, size_t dynamic) {
  const int warps = (threads + 31) / 32;
  const int by_threads = threads_per_multiprocessor / (warps * 32);
  // Registers are given to warps in units of 256; each of the four parts of a multiprocessor has a quarter.
  const int per_warp = round_up(registers_of(kernel) * 32, 256);
  const int by_registers = registers_per_multiprocessor / 4 / per_warp * 4 / warps;
  const int shared = round_up(static_cast<int>(static_shared_bytes(kernel) + dynamic) + reserved_shared, 128);
  const int by_shared = shared_per_multiprocessor / shared;
  return std::min({by_threads, by_registers, by_shared, blocks_per_multiprocessor});
}

}  // namespace

std::recursive_mutex& device_mutex() {
  static auto& mutex = *new std::recursive_mutex;
  return mutex;
}

void set_sticky_error(cudaError_t error) {
  if (device_error == cudaSuccess) device_error = error;
}
void clear_sticky_error() { device_error = last_error = cudaSuccess; }
cudaError_t sticky_error() { return device_error; }

cudaError_t failed(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t status(cudaError_t error) { return failed(device_error != cudaSuccess ? device_error : error); }

cudaError_t missing_device() {
  if (options().driver < CUDART_VERSION / 1000 * 1000) return failed(cudaErrorInsufficientDriver);
  return options().devices == 0 ? failed(cudaErrorNoDevice) : cudaSuccess;
}

}  // namespace cudasim

using namespace cudasim;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t error = missing_device()) return error;  // count stays as it was
  *count = options().devices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  if (const cudaError_t error = missing_device()) return error;
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = missing_device()) return error;
  return device < 0 || device >= options().devices ? failed(cudaErrorInvalidDevice) : status();
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = options().driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = missing_device()) return error;
  if (device < 0 || device >= options().devices) return failed(cudaErrorInvalidDevice);
  cudaDeviceProp p{};
  std::strcpy(p.name, "CUDA simulation");
  p.totalGlobalMem = options().memory;
  p.sharedMemPerBlock = 48 * 1024;
  p.sharedMemPerBlockOptin = largest_shared;
  p.sharedMemPerMultiprocessor = shared_per_multiprocessor;
  p.reservedSharedMemPerBlock = reserved_shared;
  p.regsPerBlock = p.regsPerMultiprocessor = registers_per_multiprocessor;
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 2147483647;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.totalConstMem = 65536;
  p.major = options().arch / 10;
  p.minor = options().arch % 10;
  p.multiProcessorCount = options().multiprocessors;
  p.maxThreadsPerMultiProcessor = threads_per_multiprocessor;
  p.maxBlocksPerMultiProcessor = blocks_per_multiprocessor;
  p.memoryBusWidth = 5120;
  p.l2CacheSize = 50 << 20;
  p.concurrentKernels = 1;
  p.asyncEngineCount = 3;
  p.unifiedAddressing = 1;
  p.canMapHostMemory = 1;
  p.textureAlignment = 512;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(p.reservedSharedMemPerBlock);
      break;
    case cudaDevAttrMaxRegistersPerBlock:
      *value = p.regsPerBlock;
      break;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = p.regsPerMultiprocessor;
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = p.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = p.maxGridSize[0];
      break;
    case cudaDevAttrMaxGridDimY:
      *value = p.maxGridSize[1];
      break;
    case cudaDevAttrMaxGridDimZ:
      *value = p.maxGridSize[2];
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = p.memoryBusWidth;
      break;
    case cudaDevAttrConcurrentKernels:
      *value = p.concurrentKernels;
      break;
    case cudaDevAttrAsyncEngineCount:
      *value = p.asyncEngineCount;
      break;
    case cudaDevAttrClockRate:
      *value = 1755000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 0;
      break;
    default:
      report("not simulated", "cudaDeviceGetAttribute of attribute " + std::to_string(attribute),
             cudaErrorInvalidValue);
      return failed(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = sticky_error() != cudaSuccess ? sticky_error() : last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return sticky_error() != cudaSuccess ? sticky_error() : last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorName* known = find(error);
  return known == nullptr ? "unrecognized error code" : known->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorName* known = find(error);
  return known == nullptr ? "unrecognized error code" : known->text;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return failed(cudaErrorInvalidDeviceFunction);
  cudaFuncAttributes a{};
  a.sharedSizeBytes = static_shared_bytes(*kernel);
  a.localSizeBytes = kernel->function->local_bytes;
  a.maxThreadsPerBlock = kernel->function->max_threads;
  a.numRegs = registers_of(*kernel);
  a.ptxVersion = 75;
  a.binaryVersion = 90;
  a.maxDynamicSharedSizeBytes = kernel->max_dynamic_shared;
  *attributes = a;
  return status();
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return failed(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || value + static_cast<int>(static_shared_bytes(*kernel)) > largest_shared)
      return failed(cudaErrorInvalidValue);
    kernel->max_dynamic_shared = value;
  } else if (attribute != cudaFuncAttributePreferredSharedMemoryCarveout) {
    return failed(cudaErrorInvalidValue);
  }
  return status();
}

cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return status(); }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function,
                                                                   int threads, size_t dynamic, unsigned) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return failed(cudaErrorInvalidDeviceFunction);
  if (threads <= 0 || threads > 1024) return failed(cudaErrorInvalidValue);
  const size_t shared = dynamic + static_shared_bytes(*kernel);
  *blocks = shared > static_cast<size_t>(largest_shared) ? 0 : blocks_that_fit(*kernel, threads, dynamic);
  return status();
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t dynamic) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, dynamic, 0);
}
}
