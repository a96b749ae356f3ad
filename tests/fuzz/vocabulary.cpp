#include "nn/data/vocabulary.h"

#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The model of a vocabulary, and a text in the words of whatever model could be read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  fuzz::read_or_refuse([&] {
    const data::Vocabulary vocabulary = data::Vocabulary::load(file.path());
    for (int64_t id = 0; id < vocabulary.size(); ++id) vocabulary.piece(id);
    const data::Ids ids = vocabulary.encode("the cat\tsat \xe2\x96\x81on a \xf0\x9f\x98\x80 mat");
    for (const int64_t id : ids) fuzz::require(id >= 0 && id < vocabulary.size(), "ids are below the size");
    vocabulary.decode(ids);
  });
  return 0;
}
