// Byte-level byte pair encoding, GPT-2's: a word's bytes, merged pair by pair (Sennrich, Haddow, Birch,
// "Neural machine translation of rare words with subword units", ACL 2016; Radford et al. 2019).
#pragma once

#include <memory>

#include "nn/data/tokenizers/pieces.h"

namespace tandem::data {

struct BytePairOptions {
  std::vector<std::pair<std::string, std::string>> merges;  // those that come first are made first
  bool add_prefix_space = false;  // before a text, or a part of it behind an added piece, that has none
  // What a byte without a piece of its own becomes; -1: nothing. One for several that follow each other.
  int64_t unknown = -1;
  bool fuse_unknown = false;
};

// Pieces are written in GPT-2's alphabet, a letter for each byte. IoError naming the file for a merge of
// pieces that are not there.
std::shared_ptr<const Tokenizer> make_byte_pairs(PieceTable table, const BytePairOptions& options,
                                                 const std::string& name);

// Where the first word of a text ends, for GPT-2: 's 't 're 've 'm 'll 'd, or letters, numbers or others,
// each perhaps with a space before, or blanks up to the last before a word.
size_t first_word(std::string_view text);

}  // namespace tandem::data
