// What a test program finds from its own place in the build folder.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace tandem::testing {

inline std::filesystem::path program_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

// Lets load_device() find the device modules of tests, which a build leaves in tests/cuda.
inline void find_test_devices() {
  const std::filesystem::path here = program_folder();  // tests or tests/cuda
  setenv("TANDEM_DEVICE_PATH", (here.string() + ":" + (here / "cuda").string()).c_str(), 0);
}

}  // namespace tandem::testing
