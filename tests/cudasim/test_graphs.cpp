// Captures of streams into graphs, and what they do not allow.
#include <doctest/doctest.h>

#include "kernels/good.h"
#include "memory/pool_blocks.h"
#include "test_util.h"

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

TEST_CASE("graphs: blocks of an allocator in replays") {
  const Restore restore;
  cudasim::options().print = false;
  const Stream stream;
  const DeviceArray<float> before(64), inside(64), y(std::vector<float>(64, 0.0f));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  const auto record = [&](bool release_first) {
    tandem_block_acquired(before.data(), 256, stream);
    require(cudaMemsetAsync(before.data(), 0, 256, stream));
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    tandem_block_acquired(inside.data(), 256, stream);
    require(cudaMemsetAsync(inside.data(), 0, 256, stream));
    good::saxpy(64, 1.0f, inside.data(), y.data(), stream);
    tandem_block_released(inside.data(), stream);
    if (release_first) tandem_block_released(before.data(), stream);
    good::saxpy(64, 1.0f, before.data(), y.data(), stream);
    require(cudaStreamEndCapture(stream, &graph));
    require(cudaGraphInstantiate(&executable, graph, 0));
    require(cudaGraphDestroy(graph));
    for (int i = 0; i < 2; ++i) require(cudaGraphLaunch(executable, stream));
  };
  SUBCASE("each replay acquires its own again") {
    record(false);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    tandem_block_released(before.data(), stream);
    // Without its block, the recording is of no use any more.
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    CHECK(cudasim::reports().at(0).kind == "use after free");
    cudasim::reset_reports();
  }
  SUBCASE("a block released while recording is gone") {
    CHECK_THROWS(record(true));
    CHECK(cudasim::reports().at(0).kind == "use after free");
    cudasim::reset_reports();
  }
  require(cudaGraphExecDestroy(executable));
  tandem_block_acquired(before.data(), 256, stream);
  tandem_block_acquired(inside.data(), 256, stream);
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
