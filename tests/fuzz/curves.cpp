#include "tools/tandem/curves.h"

#include <filesystem>

#include "nn/io/files.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The CSV is read and the script for gnuplot written; no gnuplot is found to draw it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const data::TemporaryFolder folder(
      std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path().string());
  setenv("PATH", "", 1);
  const fuzz::MemoryFile csv(fuzz::text_of(data, size));
  fuzz::read_or_refuse([&] {
    data::draw_curves({{"plain", csv.path()}, {"it's", csv.path()}}, folder.path() + "/curves.png", "title");
  });
  return 0;
}
