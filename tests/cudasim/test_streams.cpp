// Streams, events, captures and the errors of the runtime.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "device_array.h"
#include "kernels/bad.h"
#include "kernels/good.h"
#include "sim.h"

namespace {

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

// A value set by one stream, read by another; right only if an event orders them.
float handed_over(bool with_event) {
  const Stream writer, reader;
  const Event written;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 0.0f));
  good::saxpy(64, 1.0f, x.data(), x.data(), writer);  // x becomes 2
  if (with_event) {
    require(cudaEventRecord(written, writer));
    require(cudaStreamWaitEvent(reader, written, 0));
  }
  good::saxpy(64, 1.0f, x.data(), y.data(), reader);
  require(cudaDeviceSynchronize());
  return y.values()[63];
}

}  // namespace

TEST_CASE("streams: work that waits for an event comes after it, whatever the order of streams") {
  const Restore restore;
  cudasim::options().deferred = true;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    cudasim::options().seed = seed;
    CHECK(handed_over(true) == 2.0f);
  }
}

TEST_CASE("streams: a missing event shows in values when work is deferred") {
  const Restore restore;
  cudasim::options().check = false;
  cudasim::options().deferred = true;
  int wrong = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    cudasim::options().seed = seed;
    wrong += handed_over(false) != 2.0f ? 1 : 0;
  }
  CHECK(wrong > 0);
  cudasim::options().deferred = false;  // and not when it runs at once
  CHECK(handed_over(false) == 2.0f);
}

TEST_CASE("streams: memory used by two streams without an order is reported, whatever the order was") {
  const Restore restore;
  cudasim::options().print = false;
  const Stream one, two;
  const Event event;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 0.0f));
  const Pinned pinned(64);
  std::fill_n(pinned.data, 64, 5.0f);
  const auto kernel_writes_x = [&](cudaStream_t stream) {
    good::saxpy(64, 1.0f, y.data(), x.data(), stream);
  };
  const auto kernel_reads_x = [&](cudaStream_t stream) { good::saxpy(64, 1.0f, x.data(), y.data(), stream); };
  // What fails at once returns an error already here.
  const auto copy_to_x = [&](cudaStream_t stream) {
    cudaMemcpyAsync(x.data(), pinned.data, 256, cudaMemcpyHostToDevice, stream);
  };
  const auto copy_from_x = [&](cudaStream_t stream) {
    cudaMemcpyAsync(pinned.data, x.data(), 256, cudaMemcpyDeviceToHost, stream);
  };
  const auto library_reads_x = [&](cudaStream_t stream) {
    cudasim::enqueue(stream, "library", [&] { cudasim::check_read(x.data(), 256, "library: x"); });
  };
  const auto library_writes_x = [&](cudaStream_t stream) {
    cudasim::enqueue(stream, "library", [&] { cudasim::check_write(x.data(), 256, "library: x"); });
  };
  struct Pair {
    std::function<void(cudaStream_t)> first, second;
  };
  const Pair pairs[] = {
      {kernel_writes_x, kernel_reads_x}, {kernel_reads_x, kernel_writes_x},  {copy_to_x, kernel_reads_x},
      {kernel_reads_x, copy_to_x},       {kernel_writes_x, copy_from_x},     {copy_from_x, kernel_writes_x},
      {library_writes_x, copy_from_x},   {kernel_writes_x, library_reads_x}, {library_reads_x, copy_to_x}};
  const auto waits_by_event = [&] {
    require(cudaEventRecord(event, one));
    require(cudaStreamWaitEvent(two, event, 0));
  };
  const auto waits_on_host = [&] { require(cudaStreamSynchronize(one)); };
  const auto polls = [&] {
    require(cudaEventRecord(event, one));
    while (cudaEventQuery(event) == cudaErrorNotReady) {
    }
  };
  for (const bool deferred : {false, true}) {
    cudasim::options().deferred = deferred;
    for (size_t i = 0; i < std::size(pairs); ++i) {
      CAPTURE(deferred);
      CAPTURE(i);
      require(cudaDeviceSynchronize());
      pairs[i].first(one);
      pairs[i].second(two);
      CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
      REQUIRE(!cudasim::reports().empty());
      CHECK(cudasim::reports()[0].kind == "race between streams");
      cudasim::reset_reports();
      for (const std::function<void()>& wait :
           {std::function<void()>(waits_by_event), std::function<void()>(waits_on_host),
            std::function<void()>(polls)}) {
        require(cudaDeviceSynchronize());
        pairs[i].first(one);
        wait();
        pairs[i].second(two);
        CHECK(cudaDeviceSynchronize() == cudaSuccess);
      }
    }
  }
  // An event orders what was before it, not what came to its stream later.
  require(cudaEventRecord(event, one));
  kernel_writes_x(one);
  require(cudaStreamWaitEvent(two, event, 0));
  kernel_reads_x(two);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  cudasim::reset_reports();
  // Through a third stream.
  const Stream three;
  const Event second;
  kernel_writes_x(one);
  waits_by_event();
  require(cudaEventRecord(second, two));
  require(cudaStreamWaitEvent(three, second, 0));
  kernel_reads_x(three);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  // Two readers need no order.
  kernel_reads_x(one);
  copy_from_x(three);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("streams: pinned memory is read when the copy runs, pageable memory when it is called") {
  const Restore restore;
  cudasim::options().deferred = true;
  const Stream stream;
  const DeviceArray<float> x(std::vector<float>(4, 0.0f));
  std::vector<float> pageable(4, 1.0f);
  require(cudaMemcpyAsync(x.data(), pageable.data(), 16, cudaMemcpyHostToDevice, stream));
  pageable.assign(4, 2.0f);
  require(cudaStreamSynchronize(stream));
  CHECK(x.values()[0] == 1.0f);
  const Pinned pinned(4);
  std::fill_n(pinned.data, 4, 3.0f);
  require(cudaMemcpyAsync(x.data(), pinned.data, 16, cudaMemcpyHostToDevice, stream));
  std::fill_n(pinned.data, 4, 4.0f);
  require(cudaStreamSynchronize(stream));
  CHECK(x.values()[0] == 4.0f);
  // To pinned memory, results are there after a synchronisation only.
  std::fill_n(pinned.data, 4, 0.0f);
  require(cudaMemcpyAsync(pinned.data, x.data(), 16, cudaMemcpyDeviceToHost, stream));
  CHECK(pinned.data[3] == 0.0f);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  require(cudaStreamSynchronize(stream));
  CHECK(pinned.data[3] == 4.0f);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
}

TEST_CASE("streams: the legacy stream is ordered with blocking streams and not with others") {
  const Restore restore;
  cudasim::options().deferred = true;
  cudasim::options().print = false;
  const Stream blocking(cudaStreamDefault), other;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 0.0f));
  int late = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    cudasim::options().seed = seed;
    require(cudaMemset(x.data(), 0, 256));
    require(cudaMemset(y.data(), 0, 256));
    require(cudaDeviceSynchronize());
    require(cudaMemsetAsync(x.data(), 0x3f, 256, blocking));
    good::saxpy(64, 1.0f, x.data(), y.data(), nullptr);  // waits for the blocking stream
    require(cudaDeviceSynchronize());
    CHECK(y.values()[0] != 0.0f);
    require(cudaMemset(x.data(), 0, 256));
    require(cudaMemset(y.data(), 0, 256));
    require(cudaDeviceSynchronize());
    require(cudaMemsetAsync(x.data(), 0x3f, 256, other));
    good::saxpy(64, 1.0f, x.data(), y.data(), nullptr);
    CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
    cudasim::reset_reports();
    late += y.values()[0] == 0.0f ? 1 : 0;
  }
  CHECK(late > 0);
}

TEST_CASE("streams: host functions, event times and queries") {
  const Restore restore;
  cudasim::options().deferred = true;
  const Stream stream;
  const Event begin, end;
  int calls = 0;
  require(cudaEventRecord(begin, stream));
  require(cudaLaunchHostFunc(
      stream, [](void* data) { ++*static_cast<int*>(data); }, &calls));
  require(cudaEventRecord(end, stream));
  CHECK(calls == 0);
  int queries = 0;
  while (cudaEventQuery(end) == cudaErrorNotReady) ++queries;  // polling lets time pass
  CHECK(queries > 0);
  CHECK(calls == 1);
  float milliseconds = -1;
  CHECK(cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess);
  CHECK(milliseconds >= 0);
  const Event never;
  CHECK(cudaEventSynchronize(never) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, never, end) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("graphs: captured work runs at launches, with another stream's part in order") {
  const Restore restore;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    cudasim::options().seed = seed;
    cudasim::options().deferred = seed != 0;
    const Stream stream, side;
    const Event fork, join;
    const DeviceArray<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 0.0f)),
        z(std::vector<float>(64, 0.0f));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    good::saxpy(64, 1.0f, x.data(), y.data(), stream);  // y += x
    require(cudaEventRecord(fork, stream));
    require(cudaStreamWaitEvent(side, fork, 0));
    good::saxpy(64, 2.0f, y.data(), z.data(), side);  // z += 2 y
    cudaStreamCaptureStatus state;
    CHECK(cudaStreamIsCapturing(side, &state) == cudaSuccess);
    CHECK(state == cudaStreamCaptureStatusActive);
    require(cudaEventRecord(join, side));
    require(cudaStreamWaitEvent(stream, join, 0));
    good::saxpy(64, 1.0f, z.data(), x.data(), stream);  // x += z
    require(cudaStreamEndCapture(stream, &graph));
    CHECK(y.values()[0] == 0.0f);  // nothing ran
    size_t nodes = 0;
    require(cudaGraphGetNodes(graph, nullptr, &nodes));
    CHECK(nodes == 3);
    require(cudaGraphInstantiate(&executable, graph, 0));
    require(cudaGraphDestroy(graph));
    float ex = 1, ey = 0, ez = 0;
    for (int i = 0; i < 3; ++i) {
      require(cudaGraphLaunch(executable, stream));
      ey += ex, ez += 2 * ey, ex += ez;
    }
    require(cudaStreamSynchronize(stream));
    CHECK(x.values()[5] == ex);
    CHECK(y.values()[5] == ey);
    CHECK(z.values()[5] == ez);
    require(cudaGraphExecDestroy(executable));
  }
}

TEST_CASE("graphs: what a capture does not allow") {
  const Restore restore;
  const Stream stream, side;
  const Event event;
  cudaGraph_t graph = nullptr;
  void* pointer = nullptr;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f));
  const auto capture = [&] { require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal)); };
  const auto ends_with = [&](cudaError_t error) {
    CHECK(cudaStreamEndCapture(stream, &graph) == error);
    CHECK(graph == nullptr);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  };
  SUBCASE("allocation") {
    capture();
    CHECK(cudaMalloc(&pointer, 16) == cudaErrorStreamCaptureUnsupported);
    CHECK(pointer == nullptr);
    ends_with(cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("freeing") {
    require(cudaMalloc(&pointer, 16));
    capture();
    CHECK(cudaFree(pointer) == cudaErrorStreamCaptureUnsupported);
    ends_with(cudaErrorStreamCaptureInvalidated);
    CHECK(cudaFree(pointer) == cudaSuccess);
  }
  SUBCASE("synchronisation") {
    capture();
    CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
    good::saxpy(64, 1.0f, x.data(), x.data(), stream);
    CHECK(cudaGetLastError() == cudaErrorStreamCaptureInvalidated);
    ends_with(cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("the legacy stream beside a blocking one") {
    const Stream blocking(cudaStreamDefault);
    require(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemsetAsync(x.data(), 0, 16, nullptr) == cudaErrorStreamCaptureImplicit);
    CHECK(cudaStreamEndCapture(blocking, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
  }
  SUBCASE("an event of the capture on the host") {
    capture();
    require(cudaEventRecord(event, stream));
    CHECK(cudaEventQuery(event) == cudaErrorCapturedEvent);
    CHECK(cudaEventSynchronize(event) == cudaErrorCapturedEvent);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    require(cudaGraphDestroy(graph));
  }
  SUBCASE("waiting for work outside of the capture") {
    require(cudaEventRecord(event, side));
    capture();
    CHECK(cudaStreamWaitEvent(stream, event, 0) == cudaErrorStreamCaptureIsolation);
    ends_with(cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("a second stream that never comes back") {
    capture();
    good::saxpy(64, 1.0f, x.data(), x.data(), stream);
    require(cudaEventRecord(event, stream));
    require(cudaStreamWaitEvent(side, event, 0));
    good::saxpy(64, 1.0f, x.data(), x.data(), side);
    CHECK(cudaStreamEndCapture(side, &graph) == cudaErrorStreamCaptureUnmatched);
    ends_with(cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("unjoined work") {
    capture();
    good::saxpy(64, 1.0f, x.data(), x.data(), stream);
    require(cudaEventRecord(event, stream));
    require(cudaStreamWaitEvent(side, event, 0));
    good::saxpy(64, 1.0f, x.data(), x.data(), side);
    ends_with(cudaErrorStreamCaptureUnjoined);
  }
  SUBCASE("an end without a beginning") {
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState);
  }
  cudaGetLastError();
}

TEST_CASE("runtime: errors of launches, copies and memory") {
  const Restore restore;
  const DeviceArray<float> x(std::vector<float>(64, 1.0f));
  float host[64];
  SUBCASE("configurations that no device takes") {
    bad::dynamic_shared_too_small(x.data(), 49 * 1024);  // more than 48 KiB without asking for it
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaSuccess);
  }
  SUBCASE("out of memory, and how much there is") {
    size_t free = 0, total = 0;
    cudasim::options().memory = 1 << 20;
    void* first = nullptr;
    void* second = nullptr;
    size_t before = 0;
    require(cudaMemGetInfo(&before, &total));
    CHECK(total == 1 << 20);
    CHECK(cudaMalloc(&first, 512 << 10) == cudaSuccess);
    require(cudaMemGetInfo(&free, &total));
    CHECK(before - free == 512 << 10);
    CHECK(cudaMalloc(&second, 768 << 10) == cudaErrorMemoryAllocation);
    CHECK(second == nullptr);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    CHECK(cudaFree(first) == cudaSuccess);
    CHECK(cudaMalloc(&second, 768 << 10) == cudaSuccess);
    CHECK(cudaFree(second) == cudaSuccess);
  }
  SUBCASE("copies in a direction that the pointers do not have") {
    CHECK(cudaMemcpy(host, host, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(x.data(), x.data(), 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(host, x.data(), 256, cudaMemcpyDefault) == cudaSuccess);
    cudaGetLastError();
  }
  SUBCASE("copies behind the end") {
    cudasim::options().print = false;
    CHECK(cudaMemcpy(host, x.data() + 60, 32, cudaMemcpyDeviceToHost) != cudaSuccess);
    CHECK(cudasim::reports().size() == 1);
    CHECK(cudasim::reports()[0].kind == "out of bounds");
  }
  SUBCASE("rows") {
    const DeviceArray<float> y(std::vector<float>(64, 0.0f));
    require(cudaMemcpy2D(y.data(), 32, x.data(), 64, 16, 4, cudaMemcpyDeviceToDevice));
    const std::vector<float> values = y.values();
    for (size_t i = 0; i < 64; ++i) CHECK(values[i] == (i < 32 && i % 8 < 4 ? 1.0f : 0.0f));
    CHECK(cudaMemcpy2D(y.data(), 8, x.data(), 64, 16, 4, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
    cudaGetLastError();
  }
  SUBCASE("an error of a kernel stays") {
    cudasim::options().print = false;
    bad::write_before(x.data());
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    CHECK(cudaMemcpy(host, x.data(), 16, cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress);
    void* pointer = nullptr;
    CHECK(cudaMalloc(&pointer, 16) == cudaErrorIllegalAddress);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    CHECK(std::string(cudaGetErrorName(cudaErrorIllegalAddress)) == "cudaErrorIllegalAddress");
  }
}

TEST_CASE("runtime: no device, no driver") {
  const Restore restore;
  int count = -7;
  void* pointer = nullptr;
  cudasim::options().devices = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == -7);
  CHECK(cudaMalloc(&pointer, 16) == cudaErrorNoDevice);
  cudasim::options().devices = 1;
  cudasim::options().driver = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  CHECK(count == -7);
  cudaStream_t stream = nullptr;
  CHECK(cudaStreamCreate(&stream) == cudaErrorInsufficientDriver);
  int version = -1;
  CHECK(cudaDriverGetVersion(&version) == cudaSuccess);
  CHECK(version == 0);
  cudasim::options() = restore.before;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("runtime: host code that follows a device pointer is stopped with a message") {
  const DeviceArray<int> x(std::vector<int>{1, 2, 3});
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    signal(SIGSEGV, SIG_DFL);
    void* pointer = nullptr;
    cudaMalloc(&pointer, 16);
    _exit(*static_cast<volatile int*>(x.data()) == 1 ? 0 : 1);
  }
  close(pipe_ends[1]);
  std::string text(400, 0);
  const ssize_t length = read(pipe_ends[0], text.data(), text.size());
  close(pipe_ends[0]);
  int state = 0;
  waitpid(child, &state, 0);
  CHECK(WIFSIGNALED(state));
  REQUIRE(length > 0);
  CHECK(text.find("host code follows a device pointer") != std::string::npos);
}

TEST_CASE("options: text and its mistakes") {
  cudasim::Options o;
  cudasim::parse_options(o, "order=random,seed=12,deferred=1,check=0,memory=1000,budget=5");
  CHECK(cudasim::describe(o) == "order=random,seed=12,check=0,deferred=1");
  CHECK(o.memory == 1000);
  CHECK(o.budget == 5);
  CHECK_THROWS_WITH(cudasim::parse_options(o, "order=sideways"),
                    "CUDASIM: order=sideways, expected forward, reverse or random");
  CHECK_THROWS_WITH(cudasim::parse_options(o, "seed=-1"), "CUDASIM: seed=-1, expected a number");
  CHECK_THROWS_WITH(cudasim::parse_options(o, "check"), "CUDASIM: 'check' has no value, expected key=value");
  CHECK_THROWS_AS(cudasim::parse_options(o, "speed=9"), std::invalid_argument);
}
