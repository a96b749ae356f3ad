// The device as autograd sees it, and the start of this module.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include "autograd/device.h"
#include "autograd/scope.h"
#include "autograd/shared_library.h"
#include "cuda/allocator.h"
#include "cuda/context.h"
#include "cuda/pending_error.h"
#include "cuda/rank_sums.h"
#include "cuda/recording.h"
#include "cuda/staging.h"

namespace tandem::cuda {
namespace {

constexpr int kOldestArchitecture = 75;  // of the PTX that is in this module (cuda/meson.build)

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class EventMark final : public Mark {
 public:
  EventMark() { check(cudaEventRecord(event_, stream()), "cudaEventRecord"); }
  double seconds_since(const Mark& earlier) const override {
    check(cudaEventSynchronize(event_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, static_cast<const EventMark&>(earlier).event_, event_),
          "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) / 1e3;
  }

 private:
  Event event_;
};

class CudaBackend final : public Backend {
 public:
  void* allocate(int64_t bytes) override {
    void* data = allocator().allocate(bytes);
    if (const int fill = allocation_fill(); fill >= 0)
      check(cudaMemsetAsync(data, fill, bytes, stream()), "cudaMemsetAsync");
    return data;
  }
  void release(void* data, int64_t bytes) noexcept override {
    try {
      staging().before_reuse(data, bytes);
    } catch (const Error&) {  // of a device that has failed: whoever asks it next is told
    }
    allocator().release(data, bytes);
  }

  void copy_to_host(void* host, const void* data, int64_t bytes) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(host, data, bytes, cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync");
    synchronize();
  }
  void copy_from_host(void* data, const void* host, int64_t bytes) override {
    staging().copy(data, host, bytes, stream());
  }

  MemoryStats stats() const override { return allocator().stats(); }
  void reset_peak() override { allocator().reset_peak(); }
  void release_cached() override { allocator().release_cached(); }
  void synchronize() override { cuda::synchronize(); }

  void upload(void* data, const void* host, int64_t bytes) override { staging().upload(data, host, bytes); }
  void await_uploads() override { staging().await_uploads(); }

#if TANDEM_NCCL
  std::unique_ptr<RankSums> join(Ranks& ranks) override { return join_devices(ranks); }
#endif

  void begin_recording(const Recording* like) override {
    pending_error();  // memory of its own, which a recording could not get
    cuda::begin_recording(like);
  }
  std::unique_ptr<Recording> end_recording() override { return cuda::end_recording(); }
  void cancel_recording() noexcept override { cuda::cancel_recording(); }

  std::unique_ptr<Mark> mark() override {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream(), &capture), "cudaStreamIsCapturing");
    return capture == cudaStreamCaptureStatusNone ? std::make_unique<EventMark>() : nullptr;
  }

  int64_t part_bytes() const override {
    return std::min(int64_t{1} << 30, static_cast<int64_t>(properties().totalGlobalMem / 128));
  }
  std::string description() const override {
    const cudaDeviceProp& p = properties();
    return fmt::format("{}, sm_{}{}, {:.0f} GiB", p.name, p.major, p.minor,
                       static_cast<double>(p.totalGlobalMem) / (1 << 30));
  }
};

// More devices than CUDA_VISIBLE_DEVICES names: CUDA was started before it was set, and device 0 is another
// one than was chosen. "" if not.
std::string other_than_chosen(int count) {
  const char* set = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::string visible = set ? set : "";
  if (!set || count <= 1 + std::count(visible.begin(), visible.end(), ',')) return "";
  return fmt::format(
      "CUDA_VISIBLE_DEVICES is '{}', but cudaGetDeviceCount found {}: CUDA was started before that was set, "
      "perhaps by MPI; choose_device (autograd/load_device.h) has to come before",
      visible, count);
}

}  // namespace
}  // namespace tandem::cuda

// Called once by load_device: registers the backend, or says why there is no device.
extern "C" const char* tandem_start_device() {
  static std::string problem;
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    problem = status != cudaSuccess ? fmt::format("no CUDA device: cudaGetDeviceCount says {} ({})",
                                                  cudaGetErrorString(status), cudaGetErrorName(status))
                                    : "no CUDA device: cudaGetDeviceCount found 0";
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES"))
      problem += fmt::format("; CUDA_VISIBLE_DEVICES is '{}'", visible);
    return problem.c_str();
  }
  using namespace tandem::cuda;
  if (problem = other_than_chosen(count); !problem.empty()) return problem.c_str();
  try {
    check(cudaFree(nullptr), "cudaFree");  // makes the context, for which a device may be too busy
    // cuDNN opens it by its name, to compile kernels, and does without them where the linker does not find
    // it.
    std::string ignored;
    tandem::detail::open_library(fmt::format("libnvrtc.so.{}", CUDART_VERSION / 1000), ignored);
    const cudaDeviceProp& p = properties();
    if (10 * p.major + p.minor < kOldestArchitecture) {
      problem = fmt::format("the CUDA device {} is of sm_{}{}, expected at least sm_{}", p.name, p.major,
                            p.minor, kOldestArchitecture);
      return problem.c_str();
    }
  } catch (const tandem::Error& error) {
    problem = fmt::format("the CUDA device cannot be used: {}", error.what());
    return problem.c_str();
  }
  tandem::register_backend(tandem::DeviceType::cuda, new tandem::cuda::CudaBackend);
  return nullptr;
}
