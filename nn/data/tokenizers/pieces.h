// The pieces of a vocabulary whose text is read from files of other libraries.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nn/data/tokenizers/tokenizer.h"

namespace tandem::data {

// A piece that is found in the text itself, before all others. Special ones stand for no text.
struct AddedPiece {
  std::string content;
  int64_t id = 0;
  bool special = true;
  bool normalized = false;              // it is looked for in the normalized text
  bool lstrip = false, rstrip = false;  // it takes the blanks before and behind it
  bool single_word = false;             // not in the middle of a word
};

// What all of these vocabularies have.
struct PieceTable {
  std::vector<std::string> pieces;  // by id; "" where there is none
  std::vector<AddedPiece> added;
  SpecialIds special;
};

// Pieces in order, to find the longest that a text begins with.
class SortedPieces {
 public:
  struct Match {
    size_t length = 0;  // in bytes; 0: none
    int64_t id = -1;
  };
  struct Entry {
    std::string_view piece;
    int64_t id;
  };
  SortedPieces() = default;
  explicit SortedPieces(std::vector<Entry> pieces);  // of the same piece the last counts; copies the text

  Match longest(std::string_view text) const;
  // Whether a piece begins with this byte.
  bool starts(char byte) const { return first(byte) != first_[uint8_t(byte) + size_t{1}]; }
  bool empty() const { return ids_.empty(); }

 private:
  uint32_t first(char byte) const { return first_[uint8_t(byte)]; }
  std::string text_;              // of all, one behind the other
  std::vector<uint32_t> begins_;  // of each, and the end of the last
  std::vector<int64_t> ids_;
  std::array<uint32_t, 257> first_{};  // the first that begins with a byte
};

// Added pieces, of those that are looked for at the same time.
class AddedPieces {
 public:
  explicit AddedPieces(std::vector<AddedPiece> pieces);
  bool empty() const { return pieces_.empty(); }

  struct Part {
    std::string_view text;
    int64_t id = -1;  // of the piece that it is, -1: it is none
  };
  // The text in parts, none empty. At each place the longest piece counts.
  std::vector<Part> split(std::string_view text) const;

 private:
  std::vector<AddedPiece> pieces_;
  SortedPieces sorted_;  // ids are positions in pieces_
};

// From text to pieces by way of added ones, what is normalized, and what is between.
class PieceTokenizer : public Tokenizer {
 public:
  Ids encode(std::string_view text) const final;
  std::string piece(int64_t id) const final { return table_.pieces[id]; }
  int64_t size() const final { return static_cast<int64_t>(table_.pieces.size()); }

 protected:
  // `normalize` is what is done to a text before all else; none: nothing.
  using Normalize = std::function<std::string(std::string_view)>;
  PieceTokenizer(PieceTable table, Normalize normalize);
  const std::vector<std::string>& pieces() const { return table_.pieces; }
  // What decode() makes of a piece: of one that is looked for in normalized text, what is found there.
  const std::string& shown(int64_t id) const;
  // Appends the ids of normalized text without added pieces.
  virtual void append_ids(std::string_view text, Ids& ids) const = 0;

 private:
  PieceTable table_;
  Normalize normalize_;
  AddedPieces raw_, normalized_;
  std::map<int64_t, std::string> shown_;  // where it is another
};

}  // namespace tandem::data
