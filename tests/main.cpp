// The main() of every suite: doctest's, and --device=NAME, the device that device-independent suites run on.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/device.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

#include "tests/program_folder.h"

namespace tandem::testing {
namespace {
Device chosen = kCpu;
}
Device device() { return chosen; }
}  // namespace tandem::testing

int main(int argc, char** argv) {
  tandem::testing::find_test_devices();
  constexpr std::string_view option = "--device=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with(option)) continue;
    try {
      tandem::testing::chosen = tandem::load_device(argument.substr(option.size()));
    } catch (const tandem::Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }
  return doctest::Context(argc, argv).run();
}
