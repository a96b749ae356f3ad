// What a Vocabulary does its work by: SentencePiece's, WordPiece's or byte pairs' way from text to ids.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "nn/data/special_ids.h"

namespace tandem::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual Ids encode(std::string_view text) const = 0;
  virtual std::string decode(std::span<const int64_t> ids) const = 0;  // of ids in [0, size())
  virtual std::string piece(int64_t id) const = 0;                     // likewise
  virtual int64_t size() const = 0;

  SpecialIds special;
};

}  // namespace tandem::data
