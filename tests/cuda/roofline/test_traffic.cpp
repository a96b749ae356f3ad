// What kernels read and write, against what they must: counts of the simulated device, so the same in every
// run.
#include <doctest/doctest.h>

#include <cuda_occupancy.h>

#include "tests/cuda/roofline/assembler.h"
#include "tests/cuda/roofline/step_laws.h"
#include "tests/cuda/roofline/traffic.h"
#include "tests/device.h"

using namespace tandem;
using namespace tandem::roofline;

TEST_CASE("traffic: kernels read everything once, write it once, and use whole sectors") {
  int checked = 0;
  for (const Workload& workload : traffic_workloads(testing::device(), 4)) {
    const Traffic traffic = measure_traffic(workload);
    CAPTURE(workload.name);
    CHECK(traffic.launches > 0);
    CHECK(traffic.counted > 0.5 * traffic.minimum);  // or else the minimum is of something else
    if (workload.allowed == 0) continue;
    ++checked;
    CHECK(traffic.ratio() <= workload.allowed);
    // Of the R-Drop losses' samples, rows of bf16 begin in the middle of sectors, and what each unit or block
    // leaves for the sums, a record of 56 bytes, is written field by field.
    CHECK(traffic.sector_use() >= (workload.name.starts_with("rdrop_") ? 0.85 : 0.95));
  }
  CHECK(checked >= 50);
}

TEST_CASE("traffic: a step's bytes are linear in its batch and its layers, kernel by kernel") {
  const models::VitConfig tiny{
      .image_size = 16, .channels = 3, .classes = 16, .patch_size = 4, .dim = 64, .heads = 2, .mlp_dim = 128};
  const StepLaws laws = step_laws(tiny, {2, 2});  // the last layer is none like the others
  CHECK(laws.kernels.size() > 10);
  double bytes = 0;
  for (const KernelLaw& law : laws.kernels) bytes += law.bytes.of_both;
  // Of a token (17 of them) in a layer and two passes: more than the residual stream, f32, once, and less
  // than what the ops moved when each of them was a kernel.
  CHECK(bytes > 17 * 2 * 64 * 4);
  CHECK(bytes < 17 * 2 * 64 * 400);
  for (const StepSize size : {StepSize{6, 2}, StepSize{2, 3}})
    CHECK(distance(laws, count_step(tiny, size), size) < 0.02);
}

TEST_CASE("traffic: occupancy is what CUDA's own calculator says") {
  struct Device {
    const char* arch;
    int major, minor, threads;
    size_t shared;
  };
  for (const Device& d :
       {Device{"sm_80", 8, 0, 2048, 164}, {"sm_90", 9, 0, 2048, 228}, {"sm_120", 12, 0, 1536, 100}}) {
    cudaOccDeviceProp properties;
    properties.computeMajor = d.major, properties.computeMinor = d.minor;
    properties.maxThreadsPerBlock = 1024, properties.maxThreadsPerMultiprocessor = d.threads;
    properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
    properties.warpSize = 32;
    properties.sharedMemPerBlock = 48 << 10;
    properties.sharedMemPerMultiprocessor = d.shared << 10;
    properties.sharedMemPerBlockOptin = (d.shared - 1) << 10;
    properties.reservedSharedMemPerBlock = 1 << 10;
    properties.numSms = 132;
    for (const int threads : {32, 64, 96, 256, 512, 1024})
      for (const int registers : {16, 32, 40, 64, 72, 128, 168, 255})
        for (const size_t shared : {0, 1000, 4096, 10'000, 40'000, 90'000}) {
          INFO(std::string(d.arch), " ", threads, " threads, ", registers, " registers, ", shared, " bytes");
          cudaOccFuncAttributes function;
          function.maxThreadsPerBlock = 1024, function.numRegs = registers, function.sharedSizeBytes = 0;
          function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
          function.maxDynamicSharedSizeBytes = (d.shared - 1) << 10;
          const cudaOccDeviceState state;
          cudaOccResult result{};
          REQUIRE(cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &function, &state, threads,
                                                          shared) == CUDA_OCC_SUCCESS);
          const double expected = static_cast<double>(result.activeBlocksPerMultiprocessor) *
                                  ((threads + 31) / 32 * 32) / d.threads;
          CHECK(occupancy(d.arch, threads, registers, static_cast<int64_t>(shared)) ==
                doctest::Approx(expected));
        }
  }
}

TEST_CASE("traffic: an architecture that is not known is named beside those that are") {
  CHECK_THROWS_WITH_AS(
      occupancy("sm_12", 32, 32, 0),
      "roofline: expected an architecture of sm_80, sm_86, sm_89, sm_90, sm_100, sm_120; got "
      "'sm_12'",
      ConfigError);
}
