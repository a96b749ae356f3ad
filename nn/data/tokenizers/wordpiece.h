// WordPiece: words are cut into the longest pieces there are, from the left (BERT: Devlin et al. 2019, arXiv
// 1810.04805; Schuster, Nakajima, "Japanese and Korean voice search", ICASSP 2012).
#pragma once

#include <memory>

#include "nn/data/tokenizers/pieces.h"

namespace tandem::data {

// What is done to a text before it is cut into words, as BERT's options have it.
struct BertText {
  bool clean = true;          // control characters go, all kinds of blanks become spaces
  bool chinese_words = true;  // a Chinese character is a word
  bool strip_accents = true;
  bool lower = true;
};
std::string normalized(std::string_view text, const BertText& options);

struct WordPieceOptions {
  BertText text;
  std::string prefix = "##";   // of a piece that does not begin a word
  int64_t longest_word = 100;  // code points; what is longer is unknown
  bool cleanup = true;         // decode() takes blanks before punctuation and abbreviations away
};

// `table.special.unk` must be there.
std::shared_ptr<const Tokenizer> make_wordpiece(PieceTable table, const WordPieceOptions& options);

}  // namespace tandem::data
