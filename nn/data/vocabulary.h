// Subword vocabularies, behind one class: those that are trained here (byte-pair encoding and unigram
// language model, by SentencePiece: Kudo, Richardson, "SentencePiece: a simple and language independent
// subword tokenizer", EMNLP 2018), and published ones, WordPiece (BERT's) and byte-level BPE (GPT-2's,
// RoBERTa's, BART's), whose ids are those of the `tokenizers` library.
//
// A vocabulary that is trained here takes text as it is, with all of its blanks, so that
// decode(encode(text)) == text for every text without an unknown character. So does a byte-level one for all
// text, unless it puts a space before it; WordPiece forgets blanks, and with them what BERT's cleaning
// changes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/data/special_ids.h"

namespace tandem::data {

class Tokenizer;

// What Vocabulary::train() makes.
struct VocabularyOptions {
  int64_t size = 4000;       // at most: a short text gives fewer
  std::string kind = "bpe";  // or "unigram"
  double coverage = 1;       // share of the characters that get an id of their own, in (0, 1]
};

class Vocabulary {
 public:
  // The same for the same lines and options, with the special ids of a default SpecialIds. Where the lines do
  // not give so many pieces, as many as they give. ConfigError for options out of range, also for a size
  // below the number of characters (it says how many there are), ValueError without lines.
  static Vocabulary train(const std::vector<std::string>& lines, const VocabularyOptions& options = {});

  // What save() wrote; a SentencePiece model of train(); or a published vocabulary, as a folder or as one of
  // these files in it: tokenizer.json before vocab.txt before vocab.json with merges.txt before the one
  // *.model, and beside them tokenizer_config.json and special_tokens_map.json. What tokenizer.json says of
  // lengths (truncation, padding) is left to the data sets. IoError for files that are missing or damaged,
  // ConfigError for a kind of tokenizer that is not read; both say what was found and what is expected.
  static Vocabulary load(const std::string& path);
  // One file that load() reads: a SentencePiece model, which its own tools read too, or all of files().
  void save(const std::string& file) const;
  // The bytes of the files that it was read from, by the names that they have in a published folder.
  const std::map<std::string, std::string>& files() const { return files_; }

  const SpecialIds& special() const;  // those it has, and what texts look like to an encoder
  // The ids of a text, without those around it. In a vocabulary of train() what a text says in special pieces
  // is text; published ones, as in their library, take "[MASK]" or "<mask>" in a text for the special piece
  // (with the blanks before it where the piece says so: RoBERTa's). Bytes that are not UTF-8 count as U+FFFD.
  Ids encode(std::string_view text) const;
  // ValueError for ids outside of [0, size()). A text has no special ids: they are left out (of train(),
  // unknown ones are shown). WordPiece joins pieces by blanks, and takes those before punctuation away if the
  // file says so; bytes that are no UTF-8 become U+FFFD.
  std::string decode(std::span<const int64_t> ids) const;
  // As the model has it, with U+2581 for a blank, or GPT-2's letters for bytes; ValueError likewise.
  std::string piece(int64_t id) const;
  int64_t size() const;             // ids, the special ones included
  std::string fingerprint() const;  // of its bytes, 16 hexadecimal digits: tells vocabularies apart

 private:
  Vocabulary(std::map<std::string, std::string> files, const std::string& name);
  std::string bytes() const;  // that save() writes

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::map<std::string, std::string> files_;
};

}  // namespace tandem::data
