// main() of a target without libFuzzer: gives it the files of each folder named, and of what those hold cut
// short and with bytes changed at every few places.
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;

constexpr double kMostSeconds = 5;  // of CPU for one input; a reader's time is to be linear

int64_t inputs = 0;

void give(const std::string& bytes, const fs::path& origin) {
  const std::clock_t begin = std::clock();
  // In memory of its own, so that a sanitizer sees a byte too far.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  ++inputs;
  if (seconds < kMostSeconds) return;
  std::fprintf(stderr, "%s: %.1f s for %zu bytes, expected less than %g s\n", origin.c_str(), seconds,
               bytes.size(), kMostSeconds);
  std::exit(1);
}

}  // namespace

int main(int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    for (const auto& entry : fs::directory_iterator(arguments[i])) {
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes(std::istreambuf_iterator<char>(in), {});
      std::printf("%s\n", entry.path().c_str());  // the last one named is the one that ended the process
      std::fflush(stdout);
      give(bytes, entry.path());
      if (bytes.size() > 1 << 14) continue;
      const size_t step = bytes.size() / 64 + 1;
      for (size_t at = 0; at < bytes.size(); at += step) {
        give(bytes.substr(0, at), entry.path());
        for (const int flip : {0x01, 0x80, 0xff}) {
          std::string changed = bytes;
          changed[at] = static_cast<char>(changed[at] ^ flip);
          give(changed, entry.path());
        }
      }
    }
  }
  std::printf("%lld inputs\n", static_cast<long long>(inputs));
  return inputs > 0 ? 0 : 1;
}
