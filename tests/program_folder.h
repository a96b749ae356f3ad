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
  const std::filesystem::path here = program_folder();  // tests, or a folder in it
  const std::filesystem::path devices[] = {here, here / "cuda", here.parent_path() / "cuda"};
  std::string path;
  for (const auto& folder : devices) path += (path.empty() ? "" : ":") + folder.string();
  setenv("TANDEM_DEVICE_PATH", path.c_str(), 0);
}

}  // namespace tandem::testing
