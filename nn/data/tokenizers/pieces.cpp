#include "nn/data/tokenizers/pieces.h"

#include <algorithm>

#include "autograd/error.h"
#include "nn/data/tokenizers/unicode.h"

namespace tandem::data {
namespace {

// Where the blanks before `end` begin.
size_t blanks_before(std::string_view text, size_t end) {
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
    size_t at = begin;
    if (!unicode::is_space(unicode::next(text, at))) break;
    end = begin;
  }
  return end;
}
size_t blanks_behind(std::string_view text, size_t begin) {
  for (size_t at = begin; at < text.size(); begin = at)
    if (!unicode::is_space(unicode::next(text, at))) break;
  return begin;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t before = begin - 1;
    while (before > 0 && (text[before] & 0xC0) == 0x80) --before;
    if (unicode::is_word(unicode::next(text, before))) return false;
  }
  return end == text.size() || !unicode::is_word(unicode::next(text, end));
}

std::vector<AddedPiece> chosen(const std::vector<AddedPiece>& all, bool normalized,
                               const std::function<std::string(std::string_view)>& normalize) {
  std::vector<AddedPiece> some;
  for (const AddedPiece& one : all) {
    if (one.normalized != normalized) continue;
    some.push_back(one);
    if (normalized && normalize) some.back().content = normalize(one.content);
  }
  return some;
}

}  // namespace

SortedPieces::SortedPieces(std::vector<Entry> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Entry& a, const Entry& b) { return a.piece < b.piece; });
  begins_.push_back(0);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string_view piece = pieces[i].piece;
    if (piece.empty() || (i + 1 < pieces.size() && pieces[i + 1].piece == piece)) continue;
    text_ += piece;
    begins_.push_back(static_cast<uint32_t>(text_.size()));
    ids_.push_back(pieces[i].id);
    ++first_[uint8_t(piece[0]) + size_t{1}];
  }
  check<ValueError>(text_.size() < UINT32_MAX, "vocabulary: pieces of {} bytes", text_.size());
  for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
}

SortedPieces::Match SortedPieces::longest(std::string_view text) const {
  Match found;
  if (text.empty()) return found;
  // Those of [low, high) begin as the text does.
  uint32_t low = first_[uint8_t(text[0])], high = first_[uint8_t(text[0]) + size_t{1}];
  for (size_t length = 1; low < high; ++length) {
    if (begins_[low + 1] - begins_[low] == length) {
      found = {length, ids_[low]};
      ++low;
    }
    if (length == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[length]);
    const auto byte_of = [&](uint32_t i) { return static_cast<uint8_t>(text_[begins_[i] + length]); };
    const auto first_not = [&](uint32_t from, auto before) {
      for (uint32_t to = high; from < to;) {
        const uint32_t middle = from + (to - from) / 2;
        before(byte_of(middle)) ? from = middle + 1 : to = middle;
      }
      return from;
    };
    low = first_not(low, [byte](uint8_t b) { return b < byte; });
    high = first_not(low, [byte](uint8_t b) { return b == byte; });
  }
  return found;
}

AddedPieces::AddedPieces(std::vector<AddedPiece> pieces) : pieces_(std::move(pieces)) {
  std::vector<SortedPieces::Entry> entries;
  for (size_t i = 0; i < pieces_.size(); ++i)
    entries.push_back({pieces_[i].content, static_cast<int64_t>(i)});
  sorted_ = SortedPieces(std::move(entries));
}

std::vector<AddedPieces::Part> AddedPieces::split(std::string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const SortedPieces::Match match =
        sorted_.starts(text[at]) ? sorted_.longest(text.substr(at)) : SortedPieces::Match{};
    if (match.length == 0) {
      ++at;
      continue;
    }
    const AddedPiece& piece = pieces_[match.id];
    size_t begin = at, end = at + match.length;
    at = end;
    if (piece.single_word && !stands_alone(text, begin, end)) continue;
    if (piece.lstrip) begin = std::max(blanks_before(text, begin), done);
    if (piece.rstrip) end = blanks_behind(text, end);
    if (begin > done) parts.push_back({text.substr(done, begin - done)});
    parts.push_back({text.substr(begin, end - begin), piece.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
  return parts;
}

PieceTokenizer::PieceTokenizer(PieceTable table, Normalize normalize)
    : table_(std::move(table)),
      normalize_(std::move(normalize)),
      raw_(chosen(table_.added, false, {})),
      normalized_(chosen(table_.added, true, normalize_)) {
  special = table_.special;
  if (!normalize_) return;
  for (const AddedPiece& piece : table_.added)
    if (piece.normalized) shown_[piece.id] = normalize_(piece.content);
}

const std::string& PieceTokenizer::shown(int64_t id) const {
  const auto other = shown_.find(id);
  return other == shown_.end() ? table_.pieces[id] : other->second;
}

Ids PieceTokenizer::encode(std::string_view text) const {
  constexpr size_t kMost = INT32_MAX;  // bytes that ICU counts to
  check<ValueError>(text.size() <= kMost / 8,
                    "vocabulary: encode: expected a text of at most {} bytes, got {}", kMost / 8,
                    text.size());
  std::string valid;
  if (!unicode::is_valid(text)) text = valid = unicode::repaired(text);
  Ids ids;
  for (const AddedPieces::Part& part : raw_.split(text)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    std::string made;
    std::string_view inner = part.text;
    if (normalize_) inner = made = normalize_(inner);
    for (const AddedPieces::Part& p : normalized_.split(inner))
      p.id >= 0 ? ids.push_back(p.id) : append_ids(p.text, ids);
  }
  return ids;
}

}  // namespace tandem::data
