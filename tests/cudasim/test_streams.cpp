// Streams and events: what is ordered, and what is not.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "kernels/bad.h"
#include "kernels/good.h"
#include "test_util.h"

namespace {

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
