// The errors of the runtime, and the options of the simulation.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "kernels/bad.h"
#include "test_util.h"

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
