#include "nn/data/idx.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// Compressed files: what follows gzip's header, which is always right.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string header("\x1f\x8b\x08\0\0\0\0\0\0\3", 10);
  const fuzz::MemoryFile file(header + std::string(fuzz::text_of(data, size)));
  for (const int rank : {1, 3}) fuzz::read_or_refuse([&] { data::read_idx_array(file.path(), rank); });
  return 0;
}
