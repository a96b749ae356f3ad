#include "nn/data/tokenizers/tokenizer_files.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The files of a published vocabulary, each as its name, a line break and its bytes, with a NUL between; and
// the last part, without a line break, or nothing, is a text in the pieces of whatever could be read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest = fuzz::text_of(data, size);
  data::TokenizerFiles files;
  std::string text = "the [MASK] Cat\tsat 'd\xc3\x84 <mask> on 12 \xf0\x9f\x98\x80\xff mat.  ";
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    const size_t line = part.find('\n');
    line == std::string_view::npos ? text = part
                                   : files[std::string(part.substr(0, line))] = part.substr(line + 1);
  }
  fuzz::read_or_refuse([&] {
    const auto tokenizer = data::read_tokenizer(files, "fuzz");
    for (int64_t id = 0; id < tokenizer->size(); ++id) tokenizer->piece(id);
    const data::Ids ids = tokenizer->encode(text);
    for (const int64_t id : ids) fuzz::require(id >= 0 && id < tokenizer->size(), "ids are below the size");
    tokenizer->decode(ids);
  });
  return 0;
}
