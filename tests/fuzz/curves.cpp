#include "tools/tandem/curves.h"

#include <filesystem>
#include <fstream>

#include "nn/io/files.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The CSV is read and the script for gnuplot written; no gnuplot is found to draw it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const data::TemporaryFolder folder(
      std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path().string());
  setenv("PATH", "", 1);
  const std::string csv = folder.path() + "/metrics.csv";
  std::ofstream(csv, std::ios::binary) << fuzz::text_of(data, size);
  fuzz::read_or_refuse([&] {
    data::draw_curves({{"plain", csv}, {"it's", csv}}, folder.path() + "/curves.png", "title");
  });
  return 0;
}
