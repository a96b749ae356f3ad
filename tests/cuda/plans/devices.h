// Devices that need not be there, as cuDNN wants them described: public specifications.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

struct DeviceSpec {
  const char* architecture;
  const char* name;
  int version, processors;
  int64_t memory;
  int shared_per_block, threads_per_processor, l2;
};

inline constexpr DeviceSpec kDevices[] = {
    {"sm_80", "A100", 800, 108, 42505273344, 166912, 2048, 41943040},
    {"sm_90", "H100", 900, 132, 85024112640, 232448, 2048, 52428800},
    {"sm_120", "RTX 5090", 1200, 170, 33668988928, 101376, 1536, 100663296},
};

inline std::string properties_json(const DeviceSpec& d) {
  return fmt::format(
      R"({{"cudaDeviceId":0,"deviceVer":{},"driverVer":13000,"totalGlobalMem":{},)"
      R"("maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
      R"("multiProcessorCount":{},"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
      R"("maxSharedMemoryPerBlockOptin":{},"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
      R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":{},"pciDeviceId":0,"isTccDriver":0,)"
      R"("supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":{},)"
      R"("deviceName":"{}"}})",
      d.version, d.memory, d.processors, d.shared_per_block, d.threads_per_processor, d.l2, d.name);
}
