#include "tests/fuzz/fuzz.h"
#include "tools/corpora/corpus.h"

using namespace tandem;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::read_or_refuse<IoError>([&] { data::r_lines(std::string(fuzz::text_of(data, size))); });
  return 0;
}
