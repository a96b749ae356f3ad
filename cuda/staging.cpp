#include "cuda/staging.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda/context.h"

namespace tandem::cuda {

void Staging::copy(void* device, const void* host, int64_t bytes, cudaStream_t to) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(to, &capture), "cudaStreamIsCapturing");
  Block& through = block(bytes);
  std::memcpy(through.data, host, bytes);
  check(cudaMemcpyAsync(device, through.data, bytes, cudaMemcpyHostToDevice, to), "cudaMemcpyAsync");
  through.recorded = capture != cudaStreamCaptureStatusNone;
  if (!through.recorded) check(cudaEventRecord(through.done, to), "cudaEventRecord");
}

void Staging::upload(void* device, const void* host, int64_t bytes) {
  if (!uploads_) {
    check(cudaStreamCreateWithFlags(&uploads_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (cudaEvent_t* event : {&given_, &uploaded_})
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  check(cudaEventRecord(given_, stream()), "cudaEventRecord");
  check(cudaStreamWaitEvent(uploads_, given_, 0), "cudaStreamWaitEvent");
  copy(device, host, bytes, uploads_);
}

void Staging::await_uploads() {
  if (!uploads_) return;
  check(cudaEventRecord(uploaded_, uploads_), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream(), uploaded_, 0), "cudaStreamWaitEvent");
}

// The smallest block that is large enough and whose last copy is done, or a new one.
Staging::Block& Staging::block(int64_t bytes) {
  Block* best = nullptr;
  for (Block& b : blocks_) {
    if (b.recorded || b.size < bytes || (best && best->size <= b.size)) continue;
    if (cudaEventQuery(b.done) == cudaSuccess) best = &b;
  }
  if (best) return *best;
  Block made{nullptr,
             std::max<int64_t>(4096, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes)))),
             nullptr, false};
  check(cudaMallocHost(&made.data, made.size), "cudaMallocHost");
  check(cudaEventCreateWithFlags(&made.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  blocks_.push_back(made);
  return blocks_.back();
}

Staging& staging() {
  static Staging* instance = new Staging;
  return *instance;
}

}  // namespace tandem::cuda
