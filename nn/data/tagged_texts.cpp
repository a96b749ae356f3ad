#include "nn/data/tagged_texts.h"

#include <algorithm>
#include <map>
#include <set>

#include "autograd/error.h"
#include "nn/data/text_files.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::data {
namespace {

std::vector<std::string> columns(const std::string& line) {
  const char* between = line.find('\t') != std::string::npos ? "\t" : " ";
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < line.size();) {
    const size_t end = std::min(line.find_first_of(between, begin), line.size());
    if (end > begin) parts.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// What stands before a word so that it gets the ids that it has in its sentence: a blank in byte-level
// vocabularies. SentencePiece and WordPiece begin every text as a word; with a blank, SentencePiece would
// begin it with a piece of nothing but blank, which then had the tag.
const char* before_a_word(const Vocabulary& vocabulary) {
  const Ids alone = vocabulary.encode("a");
  Ids twice = alone;
  twice.insert(twice.end(), alone.begin(), alone.end());
  return vocabulary.encode("a a") == twice ? "" : " ";
}

}  // namespace

TaggedTexts tagged_of(const std::vector<std::string>& lines, const std::string& name, bool words_only) {
  TaggedTexts texts;
  bool inside = false;  // of a sentence
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    if (is_blank(line)) {
      inside = false;
      continue;
    }
    if (line.starts_with("-DOCSTART-") || (!inside && line.starts_with("# "))) continue;
    const std::vector<std::string> parts = columns(line);
    check<IoError>(parts.size() >= (words_only ? 1 : 2), "{}:{}: expected a word and its tag, got '{}'", name,
                   i + 1, line.substr(0, 80));
    if (!inside) texts.words.emplace_back(), texts.tags.emplace_back(), texts.lines.emplace_back();
    inside = true;
    texts.lines.back().push_back(static_cast<int64_t>(i));
    texts.words.back().push_back(parts.front());
    texts.tags.back().push_back(words_only ? "" : parts.back());
  }
  check<IoError>(!texts.words.empty(), "{}: no sentence, expected a word and its tag on each line", name);
  return texts;
}

TaggedTexts read_tagged(const std::string& file) { return tagged_of(read_lines(file), file); }

std::vector<std::string> tag_names(const TaggedTexts& texts) {
  std::set<std::string> found;
  for (const auto& tags : texts.tags) found.insert(tags.begin(), tags.end());
  std::vector<std::string> names(found.begin(), found.end());
  std::stable_partition(names.begin(), names.end(), [](const std::string& name) { return name == "O"; });
  return names;
}

TaggedDataset::TaggedDataset(const TaggedTexts& texts, const std::vector<std::string>& names,
                             const Vocabulary& vocabulary, int64_t longest)
    : longest_(longest) {
  std::map<std::string, int64_t> number;
  for (const std::string& name : names) number.emplace(name, std::ssize(number));
  const std::string blank = before_a_word(vocabulary);
  std::vector<Ids> sentences;
  for (size_t i = 0; i < texts.words.size(); ++i) {
    Ids& ids = sentences.emplace_back();
    first_.emplace_back(), labels_.emplace_back();
    for (size_t k = 0; k < texts.words[i].size(); ++k) {
      Ids pieces = vocabulary.encode((k > 0 ? blank : "") + texts.words[i][k]);
      if (pieces.empty()) pieces.push_back(vocabulary.special().unk);
      first_.back().push_back(std::ssize(ids));
      ids.insert(ids.end(), pieces.begin(), pieces.end());
      const auto found = number.find(texts.tags[i][k]);
      labels_.back().push_back(found == number.end() ? -1 : found->second);
    }
  }
  const size_t count = sentences.size();
  texts_ =
      std::make_unique<TextDataset>(std::move(sentences), std::vector<Ids>(), std::vector<int64_t>(count),
                                    longest, PairLayout::joined, vocabulary.special());
}

std::vector<int64_t> TaggedDataset::places(int64_t sentence) const {
  std::vector<int64_t> places;
  for (const int64_t piece : first_.at(sentence))
    if (piece + 1 < longest_ - 1)
      places.push_back(piece + 1);  // behind the first special id, before the last
  return places;
}

std::vector<int64_t> TaggedDataset::labels() const {
  std::vector<int64_t> all;
  for (const auto& sentence : labels_) all.insert(all.end(), sentence.begin(), sentence.end());
  return all;
}

Batch TaggedDataset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  Batch batch = texts_->batch(indices, context);
  const Shape shape = batch.inputs[0].shape();
  batch.target = full(shape, static_cast<double>(RDropOptions().ignore_index), {DType::i64});
  int64_t* row = batch.target.data<int64_t>();
  for (const int64_t i : indices) {
    const std::vector<int64_t> at = places(i);
    for (size_t k = 0; k < at.size(); ++k)
      if (labels_[i][k] >= 0) row[at[k]] = labels_[i][k];
    row += shape[1];
  }
  return batch;
}

}  // namespace tandem::data
