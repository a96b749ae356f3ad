// What several test files need.
#pragma once
#include <stdexcept>

#include "device_array.h"
#include "sim.h"

// Options as they were, and no reports, at the end of a test.
struct Restore {
  cudasim::Options before = cudasim::options();
  ~Restore() {
    cudasim::options() = before;
    cudasim::reset_reports();
  }
};

struct Stream {
  cudaStream_t handle = nullptr;
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    require(cudaStreamCreateWithFlags(&handle, flags));
  }
  ~Stream() { cudaStreamDestroy(handle); }
  operator cudaStream_t() const { return handle; }
};

struct Event {
  cudaEvent_t handle = nullptr;
  Event() { require(cudaEventCreate(&handle)); }
  ~Event() { cudaEventDestroy(handle); }
  operator cudaEvent_t() const { return handle; }
};

struct Pinned {
  float* data = nullptr;
  explicit Pinned(size_t count) {
    require(cudaMallocHost(reinterpret_cast<void**>(&data), count * sizeof(float)));
  }
  ~Pinned() { cudaFreeHost(data); }
};
