// Subword vocabularies (byte-pair encoding and unigram language model), by SentencePiece: Kudo, Richardson,
// "SentencePiece: a simple and language independent subword tokenizer", EMNLP 2018.
//
// Text is taken as it is, with all of its blanks, so that decode(encode(text)) == text for every text without
// an unknown character.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

using Ids = std::vector<int64_t>;  // numbers of pieces

// What Vocabulary::train() makes.
struct VocabularyOptions {
  int64_t size = 4000;       // at most: a short text gives fewer
  std::string kind = "bpe";  // or "unigram"
  double coverage = 1;       // share of the characters that get an id of their own, in (0, 1]
};

class Vocabulary {
 public:
  // Special ids: padding, a character that is not in it, begin, end, a hidden word. The same in every one.
  static constexpr int64_t pad = 0, unk = 1, bos = 2, eos = 3, mask = 4;

  // The same for the same lines and options. Where the lines do not give so many pieces, as many as they
  // give. ConfigError for options out of range, also for a size below the number of characters (it says how
  // many there are), ValueError without lines.
  static Vocabulary train(const std::vector<std::string>& lines, const VocabularyOptions& options = {});
  static Vocabulary load(const std::string& file);  // IoError
  void save(const std::string& file) const;         // a SentencePiece model, which its own tools read too

  Ids encode(std::string_view text) const;  // without special ids
  // ValueError for ids outside of [0, size()). A text has no special ids.
  std::string decode(std::span<const int64_t> ids) const;
  std::string piece(int64_t id) const;  // as the model has it, with U+2581 for a blank; ValueError likewise
  int64_t size() const;                 // ids, the special ones included
  std::string fingerprint() const;      // of its bytes, 16 hexadecimal digits: tells vocabularies apart

 private:
  struct Model;
  Vocabulary(std::string bytes, const std::string& name);
  std::shared_ptr<const Model> model_;
};

}  // namespace tandem::data
