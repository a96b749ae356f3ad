#include "cuda/staging.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda/context.h"

namespace tandem::cuda {
namespace {

// Large tensors go through in pieces; beyond so much pinned memory, a copy waits for those before it.
constexpr int64_t kPiece = int64_t{32} << 20, kMostPinned = int64_t{256} << 20;

}  // namespace

void Staging::copy(void* device, const void* host, int64_t bytes, cudaStream_t to) {
  const std::lock_guard lock(mutex_);
  for (int64_t begin = 0; begin < bytes; begin += kPiece)
    copy_piece(static_cast<char*>(device) + begin, static_cast<const char*>(host) + begin,
               std::min(kPiece, bytes - begin), to);
}

void Staging::copy_piece(void* device, const void* host, int64_t bytes, cudaStream_t to) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(to, &capture), "cudaStreamIsCapturing");
  const Block through = take_block(bytes);
  const bool recorded = capture != cudaStreamCaptureStatusNone;
  (recorded ? recorded_ : blocks_).push_back(through);
  std::memcpy(through.data, host, bytes);
  check(cudaMemcpyAsync(device, through.data, bytes, cudaMemcpyHostToDevice, to), "cudaMemcpyAsync");
  if (!recorded) check(cudaEventRecord(through.done, to), "cudaEventRecord");
}

void Staging::upload(void* device, const void* host, int64_t bytes) {
  if (!uploads_) {
    check(cudaStreamCreateWithFlags(&uploads_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (cudaEvent_t* event : {&given_, &uploaded_})
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  check(cudaEventRecord(given_, stream()), "cudaEventRecord");
  check(cudaStreamWaitEvent(uploads_, given_, 0), "cudaStreamWaitEvent");
  under_way_.emplace_back(static_cast<const char*>(device), bytes);
  copy(device, host, bytes, uploads_);
}

void Staging::await_uploads() {
  if (under_way_.empty()) return;
  under_way_.clear();
  check(cudaEventRecord(uploaded_, uploads_), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream(), uploaded_, 0), "cudaStreamWaitEvent");
}

void Staging::before_reuse(const void* device, int64_t bytes) {
  const char* begin = static_cast<const char*>(device);
  for (const auto& [data, size] : under_way_)
    if (data < begin + bytes && begin < data + size) return await_uploads();
}

// The smallest block that is large enough and whose last copy is done; or a new one; or, where there are
// many, one whose copy is waited for.
Staging::Block Staging::take_block(int64_t bytes) {
  const auto take = [this](Blocks::iterator block) {
    const Block taken = *block;
    blocks_.erase(block);
    return taken;
  };
  auto best = blocks_.end(), busy = blocks_.end();
  for (auto b = blocks_.begin(); b != blocks_.end(); ++b) {
    if (b->size < bytes) continue;
    const cudaError_t status = cudaEventQuery(b->done);
    if (status != cudaErrorNotReady) check(status, "cudaEventQuery");
    if (status == cudaErrorNotReady && busy == blocks_.end()) busy = b;
    if (status == cudaSuccess && (best == blocks_.end() || b->size < best->size)) best = b;
  }
  cudaGetLastError();  // "not ready" is no error
  if (best != blocks_.end()) return take(best);
  if (busy != blocks_.end() && pinned_ + bytes > kMostPinned) {
    check(cudaEventSynchronize(busy->done), "cudaEventSynchronize");
    return take(busy);
  }
  Block made{
      nullptr,
      std::max<int64_t>(4096, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes)))),
      nullptr,
  };
  check(cudaMallocHost(&made.data, made.size), "cudaMallocHost");
  check(cudaEventCreateWithFlags(&made.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  pinned_ += made.size;
  return made;
}

Staging::Blocks Staging::take_recorded() {
  const std::lock_guard lock(mutex_);
  return std::exchange(recorded_, {});
}

void Staging::give_back(Blocks blocks) {
  const std::lock_guard lock(mutex_);
  blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
}

Staging& staging() {
  static Staging* instance = new Staging;
  return *instance;
}

}  // namespace tandem::cuda
