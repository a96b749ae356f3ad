// What launches are said to have done, for kernels where it is known.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>

#include "device_array.h"
#include "kernels/counted.h"
#include "kernels/good.h"
#include "sim.h"
#include "sim_c.h"

namespace {

cudasim::LaunchCounters count(const std::function<void()>& launch) {
  cudasim::record_launches(true);
  launch();
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  cudasim::record_launches(false);
  REQUIRE(cudasim::recorded_launches().size() == 1);
  return cudasim::recorded_launches()[0];
}

}  // namespace

TEST_CASE("counters: bytes and sectors of global memory") {
  constexpr int n = 1024;
  const DeviceArray<float> x(std::vector<float>(8 * n, 1.0f)), y(n);
  SUBCASE("neighbours") {
    const auto c = count([&] { counted::copy(n, x.data(), y.data()); });
    CHECK(c.kernel == "counted::(anonymous namespace)::copy_kernel");
    CHECK(c.grid.x == 8);
    CHECK(c.block.x == 128);
    CHECK(c.read_bytes == 4 * n);
    CHECK(c.written_bytes == 4 * n);
    CHECK(c.distinct_read == 4 * n);
    CHECK(c.distinct_written == 4 * n);
    CHECK(c.read_sectors == 4 * n / 32);
    CHECK(c.written_sectors == 4 * n / 32);
    CHECK(c.flops == 0);
    CHECK(c.barriers == 0);
    CHECK(c.lane_instructions == 32 * c.warp_instructions);
  }
  SUBCASE("a part of a warp") {
    const auto c = count([&] { counted::copy(1000, x.data(), y.data()); });
    CHECK(c.read_bytes == 4000);
    CHECK(c.read_sectors == 125);
    CHECK(c.lane_instructions < 32 * c.warp_instructions);
  }
  SUBCASE("every eighth value: a sector each") {
    const auto c = count([&] { counted::copy_strided(n, 8, x.data(), y.data()); });
    CHECK(c.read_bytes == 4 * n);
    CHECK(c.read_sectors == n);
    CHECK(c.written_sectors == n / 8);
  }
  SUBCASE("not aligned to sectors: five for four") {
    const auto c = count([&] { counted::copy_shifted(n, x.data(), y.data()); });
    CHECK(c.read_sectors == 5 * n / 32);
  }
  SUBCASE("vectors") {
    const auto c = count([&] { counted::copy_vectors(n, x.data(), y.data()); });
    CHECK(c.read_bytes == 4 * n);
    CHECK(c.read_sectors == 4 * n / 32);
  }
  SUBCASE("the same bytes twice") {
    const auto c = count([&] { counted::read_twice(n, x.data(), y.data()); });
    CHECK(c.read_bytes == 8 * n);
    CHECK(c.distinct_read == 4 * n);
  }
}

TEST_CASE("counters: operations") {
  constexpr int n = 1000;
  const DeviceArray<float> x(std::vector<float>(n, 1.0f)), y(n);
  CHECK(count([&] { counted::polynomial(n, x.data(), y.data()); }).flops == 7 * n);
}

TEST_CASE("counters: bank conflicts of shared memory") {
  const DeviceArray<float> y(32);
  // A write and a read; with a stride s, gcd(s, 32) lanes meet in a bank.
  struct Expected {
    int stride;
    unsigned conflicts;
  };
  for (const Expected e : {Expected{1, 0}, {2, 2}, {4, 6}, {3, 0}, {32, 62}, {33, 0}, {0, 0}}) {
    if (e.stride == 0) continue;
    CAPTURE(e.stride);
    const auto c = count([&] { counted::shared_stride(e.stride, y.data()); });
    CHECK(c.shared_accesses == 2);
    CHECK(c.bank_conflicts == e.conflicts);
    CHECK(c.static_shared == 32 * 33 * 4);
  }
  // 16 bytes a lane: quarter warps take turns, so neighbours do not meet; reading every fourth word does.
  const auto c = count([&] { counted::shared_vectors(y.data()); });
  CHECK(c.bank_conflicts == 3);
}

TEST_CASE("counters: barriers, shared memory, and the same through the C functions") {
  const DeviceArray<float> x(std::vector<float>(150, 1.0f)), y(150);
  cudasim_record_launches(1);
  good::reverse_dynamic(150, x.data(), y.data());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  cudasim_record_launches(0);
  cudasim_launch launch;
  REQUIRE(cudasim_recorded_launch(0, &launch) == 1);
  CHECK(cudasim_recorded_launch(1, &launch) == 0);
  CHECK(std::string(launch.kernel) == "good::(anonymous namespace)::reverse_dynamic_kernel");
  CHECK(launch.block[0] == 64);
  CHECK(launch.dynamic_shared == 600);
  CHECK(launch.barriers == 1);
  CHECK(launch.read_bytes == 600);
  CHECK(launch.shared_accesses == 2 * 5);
}

TEST_CASE("C functions: options, reports, kernels, allocations") {
  const cudasim::Options before = cudasim::options();
  CHECK(cudasim_set_options("seed=77,print=0") == nullptr);
  CHECK(cudasim::options().seed == 77);
  CHECK(std::strstr(cudasim_set_options("seed=78,color=red"), "no option 'color'") != nullptr);
  CHECK(cudasim::options().seed == 77);
  cudasim_reset_reports();
  CHECK(cudasim_report(0) == nullptr);
  cudasim::report("library", "something is wrong");
  CHECK(std::string(cudasim_report(0)) == "library: something is wrong");
  CHECK(cudasim_report(1) == nullptr);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  cudasim_reset_reports();
  cudasim::options() = before;
  CHECK(cudasim_check_all_kernels(nullptr) == nullptr);
  const DeviceArray<float> x(100);
  bool found = false;
  for (size_t i = 0; const char* text = cudasim_live_allocation(i); ++i)
    found |= std::strstr(text, "of 400 bytes") != nullptr;
  CHECK(found);
}

TEST_CASE("attributes and occupancy of kernels") {
  int blocks = 0;
  const void* kernel = good::block_sum_kernel();
  cudaFuncAttributes attributes;
  REQUIRE(cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess);
  CHECK(attributes.sharedSizeBytes == 512);
  CHECK(attributes.maxThreadsPerBlock == 1024);
  const cudasim::Options before = cudasim::options();
  cudasim::options().registers = 32;
  REQUIRE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 0) == cudaSuccess);
  CHECK(blocks == 16);  // 2048 threads
  REQUIRE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 32, 0) == cudaSuccess);
  CHECK(blocks == 32);  // no more blocks than that
  cudasim::options().registers = 64;
  REQUIRE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 0) == cudaSuccess);
  CHECK(blocks == 8);  // 65536 registers
  REQUIRE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 40 << 10) == cudaSuccess);
  CHECK(blocks == 5);  // 228 KiB of shared memory
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 2000, 0) == cudaErrorInvalidValue);
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &blocks, 128, 0) ==
        cudaErrorInvalidDeviceFunction);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) ==
        cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10) == cudaSuccess);
  REQUIRE(cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess);
  CHECK(attributes.maxDynamicSharedSizeBytes == 100 << 10);
  cudasim::options() = before;
  cudaGetLastError();
}
