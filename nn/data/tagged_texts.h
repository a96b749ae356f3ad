// Texts whose words have tags: CoNLL's columns, and data for token classification.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/data/text_datasets.h"

namespace tandem::data {

// Sentences of words, each with a tag.
struct TaggedTexts {
  std::vector<std::vector<std::string>> words, tags;  // of each sentence, of equal lengths
  std::vector<std::vector<int64_t>> lines = {};       // where each word stands, from 0
};
// A word a line, in columns between tabs, or between blanks where a line has no tab: the word is the first,
// its tag the last. Blank lines end sentences; lines that begin with -DOCSTART- are left out, and before the
// first word of a sentence those that begin with "# ". IoError naming file and line: text that is not UTF-8,
// a line of one column; a file without a sentence.
TaggedTexts read_tagged(const std::string& file);
// Of lines that came from elsewhere, called `name`; with `words_only` a line may be of one column, and the
// tags are empty.
TaggedTexts tagged_of(const std::vector<std::string>& lines, const std::string& name,
                      bool words_only = false);

// The tags that occur, sorted, but "O" first where there is one.
std::vector<std::string> tag_names(const TaggedTexts& texts);

// Inputs {ids [B, T], segments [B, T]} as TextDataset has them of the words with blanks between; target i64
// [B, T] has a word's tag at its first piece and RDropOptions' default ignore_index, -100, at all others.
// batch_size counts sentences.
class TaggedDataset final : public Dataset {
 public:
  // A word's tag is its position in `names`; one that is not there does not count. Sentences of more than
  // `longest` ids are cut: the words beyond have no target. ValueError without sentences.
  TaggedDataset(const TaggedTexts& texts, const std::vector<std::string>& names, const Vocabulary& vocabulary,
                int64_t longest);

  int64_t size() const override { return texts_->size(); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const override {
    return texts_->shuffled_batches(seed, epoch, batch_size);
  }
  std::vector<Indices> ordered_batches(int64_t batch_size) const override {
    return texts_->ordered_batches(batch_size);
  }

  int64_t cut() const { return texts_->cut(); }  // how many sentences were too long
  // Of a sentence: where each of its words begins in ids; words that were cut off have none.
  std::vector<int64_t> places(int64_t sentence) const;
  // The tags of the training, for weights of classes; -1 where there is none.
  std::vector<int64_t> labels() const;

 private:
  std::unique_ptr<TextDataset> texts_;
  std::vector<std::vector<int64_t>> first_;   // of each word: its first piece, from 0
  std::vector<std::vector<int64_t>> labels_;  // of each word
  int64_t longest_;
};

}  // namespace tandem::data
