#include "nn/data/tagged_texts.h"
#include "nn/data/text_files.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// Each reader of texts; aligned files are the parts before and after the first byte 255, which no UTF-8 has.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const size_t middle = std::min(bytes.find('\xff'), bytes.size());
  if (middle < bytes.size()) {
    const fuzz::MemoryFile source(bytes.substr(0, middle)), target(bytes.substr(middle + 1));
    fuzz::read_or_refuse([&] {
      const data::TextPairs pairs = data::read_pairs(source.path(), target.path());
      fuzz::require(pairs.source.size() == pairs.target.size(), "a target for each source");
    });
    return 0;
  }
  const fuzz::MemoryFile file(bytes);
  fuzz::read_or_refuse([&] {
    for (const std::string& line : data::read_lines(file.path()))
      fuzz::require(data::invalid_utf8(line) == std::string::npos && line.find('\n') == std::string::npos,
                    "lines are UTF-8");
  });
  fuzz::read_or_refuse([&] {
    const data::TextPairs pairs = data::read_pairs(file.path());
    fuzz::require(pairs.source.size() == pairs.target.size(), "a target for each source");
  });
  for (const std::vector<std::string>& classes : {std::vector<std::string>{}, {"a", "b"}}) {
    fuzz::read_or_refuse([&] {
      const data::LabelledTexts texts = data::read_labelled(file.path(), classes);
      fuzz::require(texts.labels.size() == texts.text.size() &&
                        (texts.second.empty() || texts.second.size() == texts.text.size()),
                    "a label for each text");
      for (const int64_t label : texts.labels)
        fuzz::require(label >= 0 && label < std::ssize(texts.classes), "labels are of a class");
    });
  }
  fuzz::read_or_refuse([&] {
    const data::ScoredTexts texts = data::read_scored(file.path());
    fuzz::require(texts.scores.size() == texts.text.size() && texts.second.size() == texts.text.size(),
                  "a score for each pair");
  });
  for (const bool words_only : {false, true}) {
    fuzz::read_or_refuse([&] {
      const data::TaggedTexts texts = data::tagged_of(data::read_lines(file.path()), "columns", words_only);
      fuzz::require(texts.tags.size() == texts.words.size() && texts.lines.size() == texts.words.size(),
                    "tags and places for each sentence");
      for (size_t i = 0; i < texts.words.size(); ++i) {
        fuzz::require(!texts.words[i].empty() && texts.tags[i].size() == texts.words[i].size(),
                      "a tag for each word");
        for (const std::string& word : texts.words[i]) fuzz::require(!word.empty(), "words have letters");
      }
      data::tag_names(texts);
    });
  }
  return 0;
}
