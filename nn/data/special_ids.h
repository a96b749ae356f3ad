// The ids of a vocabulary that are no text, and what a text looks like to an encoder: the one place that
// knows. The defaults are those of vocabularies that are trained here.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::data {

using Ids = std::vector<int64_t>;  // numbers of pieces

struct SpecialIds {
  // -1: there is none. BERT calls begin and end [CLS] and [SEP].
  int64_t pad = 0;           // padding
  int64_t unk = 1;           // what is not in the vocabulary
  int64_t bos = 2, eos = 3;  // begin, end
  int64_t mask = 4;          // a hidden word
  Ids all{0, 1, 2, 3, 4};    // these and all others that are special, ascending

  // A pair is bos a eos b eos, with so many ends between: RoBERTa and BART have 2.
  int64_t between = 1;
  bool segments = true;  // of b is 1, as BERT's, not 0
  // Of an encoder-decoder: whether source and target begin with bos, as BART's, and what the decoder begins
  // with before that.
  bool pairs_with_bos = false;
  int64_t start = 2;

  // Whether a text may not hold it.
  bool contains(int64_t id) const;
  // bos a eos. ConfigError where there is no bos or eos.
  Ids row(const Ids& a) const;
  // bos a eos b eos; `first` becomes the length of the part of segment 0, which is all where segments are
  // not told apart.
  Ids row(const Ids& a, const Ids& b, int64_t& first) const;
  // A source or a target of an encoder-decoder without the eos behind it: a, or bos a.
  Ids side(const Ids& a) const;
  // How many ids a side has more than its text, with eos.
  int64_t around_side() const { return pairs_with_bos ? 2 : 1; }
  // How many ids a row has more than its text or its two texts.
  int64_t around(bool pair) const { return pair ? 2 + between : 2; }
  // pad; ConfigError naming `reader` where there is none.
  int64_t padding(const char* reader) const;
};

}  // namespace tandem::data
