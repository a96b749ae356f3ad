#include "nn/data/text_files.h"
#include "nn/data/vocabulary.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// Any text, in the ids of a vocabulary that has few characters, and back.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const data::Vocabulary vocabularies[] = {
      data::Vocabulary::train({"the cat sat on the mat",
                               "\xef\xb7\x90 \xe2\x96\x81 \xef\xb7\x90"
                               "e \xef\xb7\x90"
                               "b"},
                              {.size = 32}),
      data::Vocabulary::train({"the cat sat on the mat", "a man has a hat and a mat"},
                              {.size = 20, .kind = "unigram"})};
  const std::string_view text = fuzz::text_of(data, size);
  for (const data::Vocabulary& vocabulary : vocabularies) {
    fuzz::read_or_refuse([&] {
      const data::Ids ids = vocabulary.encode(text);
      bool known = data::invalid_utf8(text) == std::string_view::npos;
      for (const int64_t id : ids) {
        fuzz::require(id >= 0 && id < vocabulary.size(), "ids are below the size");
        known = known && id != data::SpecialIds().unk;
      }
      const std::string back = vocabulary.decode(ids);
      fuzz::require(!known || back == text, "ids without unknown ones are decoded to the text");
    });
  }
  return 0;
}
