#include "nn/data/tokenizers/byte_pairs.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>
#include <unordered_map>

#include "autograd/error.h"
#include "nn/data/tokenizers/unicode.h"

namespace tandem::data {
namespace {

// The letter of each byte in GPT-2's alphabet: its own where that can be seen, else the next from U+0100 on.
std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> letters{};
  char32_t other = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool seen = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    letters[b] = seen ? b : other++;
  }
  return letters;
}

// The bytes that a piece stands for; its own where it has other letters.
std::string bytes_of(std::string_view piece, const std::array<int, 0x144>& bytes) {
  std::string out;
  for (size_t at = 0; at < piece.size();) {
    const char32_t letter = unicode::next(piece, at);
    if (letter >= bytes.size() || bytes[letter] < 0) return std::string(piece);
    out += static_cast<char>(bytes[letter]);
  }
  return out;
}

enum class Kind { blank, letter, number, other };
Kind kind_of(char32_t c) {
  if (c < 0x80) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return Kind::letter;
    if (c >= '0' && c <= '9') return Kind::number;
    return c == ' ' || (c >= '\t' && c <= '\r') ? Kind::blank : Kind::other;
  }
  if (unicode::is_letter(c)) return Kind::letter;
  if (unicode::is_number(c)) return Kind::number;
  return unicode::is_space(c) ? Kind::blank : Kind::other;
}

// Behind the code points of this kind.
size_t end_of(std::string_view text, size_t begin, Kind kind) {
  for (size_t at = begin; at < text.size(); begin = at)
    if (kind_of(unicode::next(text, at)) != kind) break;
  return begin;
}

// What becomes of two pieces that follow each other.
class Merges {
 public:
  struct Merge {
    uint64_t pair = kNone;
    uint32_t rank = 0, made = 0;
  };
  explicit Merges(size_t count) : slots_(std::bit_ceil(2 * count + 2)), mask_(slots_.size() - 1) {}

  // Of the same pair the last counts.
  void set(int64_t a, int64_t b, uint32_t rank, int64_t made) {
    slots_[place(pair_of(a, b))] = {pair_of(a, b), rank, static_cast<uint32_t>(made)};
  }
  const Merge* find(int64_t a, int64_t b) const {
    const Merge& found = slots_[place(pair_of(a, b))];
    return found.pair == kNone ? nullptr : &found;
  }

 private:
  static constexpr uint64_t kNone = UINT64_MAX;
  static uint64_t pair_of(int64_t a, int64_t b) {
    return static_cast<uint64_t>(a) << 32 | static_cast<uint64_t>(b);
  }
  // That of the pair, or the free one where it would be.
  size_t place(uint64_t pair) const {
    size_t at = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u >> 32;
    while (slots_[at & mask_].pair != kNone && slots_[at & mask_].pair != pair) ++at;
    return at & mask_;
  }
  std::vector<Merge> slots_;
  size_t mask_;
};

// Merges the pieces of words, those of the lowest rank and then the leftmost first.
class Word {
 public:
  explicit Word(const Merges& merges) : merges_(merges) {}
  void clear() { parts_.clear(); }
  void add(int64_t id) {
    const auto i = static_cast<int32_t>(parts_.size());
    parts_.push_back({id, i - 1, i + 1});
  }

  void append_merged(Ids& ids) {
    const auto count = static_cast<int32_t>(parts_.size());
    for (int32_t i = 0; i + 1 < count; ++i) offer(i, i + 1);
    while (!queue_.empty()) {
      const auto [order, made] = queue_.top();
      queue_.pop();
      Part& left = parts_[order & UINT32_MAX];
      if (left.id < 0 || left.next == count) continue;
      Part& right = parts_[left.next];
      // What was offered may be another pair by now.
      const Merges::Merge* merge = merges_.find(left.id, right.id);
      if (merge == nullptr || merge->made != made) continue;
      left.id = made, right.id = -1;
      left.next = right.next;
      const auto here = static_cast<int32_t>(order & UINT32_MAX);
      if (left.next < count) parts_[left.next].before = here;
      if (left.before >= 0) offer(left.before, here);
      if (left.next < count) offer(here, left.next);
    }
    for (const Part& part : parts_)
      if (part.id >= 0) ids.push_back(part.id);
  }

 private:
  struct Part {
    int64_t id;  // -1: it went into another
    int32_t before, next;
  };
  void offer(int32_t left, int32_t right) {
    const Merges::Merge* merge = merges_.find(parts_[left].id, parts_[right].id);
    if (merge != nullptr)
      queue_.push({uint64_t{merge->rank} << 32 | static_cast<uint32_t>(left), merge->made});
  }

  const Merges& merges_;
  std::vector<Part> parts_;
  using Offer = std::pair<uint64_t, uint32_t>;  // rank and place, and what it makes
  std::priority_queue<Offer, std::vector<Offer>, std::greater<>> queue_;
};

class BytePairs final : public PieceTokenizer {
 public:
  BytePairs(PieceTable table, const BytePairOptions& options, const std::string& name)
      : PieceTokenizer(std::move(table), {}), options_(options), merges_(options.merges.size()) {
    const std::array<char32_t, 256> alphabet = make_alphabet();
    std::array<int, 0x144> bytes;
    bytes.fill(-1);
    for (int b = 0; b < 256; ++b) bytes[alphabet[b]] = b;
    std::unordered_map<std::string_view, int64_t> ids;
    for (size_t i = 0; i < pieces().size(); ++i) {
      if (!pieces()[i].empty()) ids[pieces()[i]] = static_cast<int64_t>(i);
      bytes_.push_back(bytes_of(pieces()[i], bytes));
    }
    for (int b = 0; b < 256; ++b) {
      std::string letter;
      unicode::append(letter, alphabet[b]);
      const auto found = ids.find(letter);
      of_byte_[b] = found == ids.end() ? options.unknown : found->second;
    }
    const auto id = [&](const std::string& piece, size_t rank) {
      const auto found = ids.find(piece);
      check<IoError>(found != ids.end(), "{}: merge {}: there is no piece '{}'", name, rank + 1, piece);
      return found->second;
    };
    for (size_t rank = 0; rank < options.merges.size(); ++rank) {
      const auto& [a, b] = options.merges[rank];
      const int64_t left = id(a, rank), right = id(b, rank);
      merges_.set(left, right, static_cast<uint32_t>(rank), id(a + b, rank));
    }
    options_.merges.clear();
  }

  std::string decode(std::span<const int64_t> ids) const override {
    std::string text;
    for (int64_t id : ids)
      if (!special.contains(id)) text += bytes_[id];
    return unicode::is_valid(text) ? text : unicode::repaired(text);
  }

 private:
  void append_ids(std::string_view text, Ids& ids) const override {
    std::string longer;
    if (options_.add_prefix_space && !text.starts_with(' ')) text = longer = fmt::format(" {}", text);
    Word word(merges_);
    for (size_t at = 0; at < text.size();) {
      const size_t end = at + first_word(text.substr(at));
      word.clear();
      bool unknown = false;
      for (; at < end; ++at) {
        const int64_t id = of_byte_[static_cast<uint8_t>(text[at])];
        const bool fused = unknown && options_.fuse_unknown;
        unknown = id == options_.unknown;
        if (id >= 0 && !(unknown && fused)) word.add(id);
      }
      word.append_merged(ids);
    }
  }

  BytePairOptions options_;
  std::vector<std::string> bytes_;  // of each piece
  std::array<int64_t, 256> of_byte_{};
  Merges merges_;
};

}  // namespace

size_t first_word(std::string_view text) {
  for (const char* ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.starts_with(ending)) return std::string_view(ending).size();
  size_t at = 0;
  Kind kind = kind_of(unicode::next(text, at));
  if (text[0] == ' ' && text.size() > 1) {  // that of what is behind a space, unless this is a blank, too
    size_t behind = 1;
    kind = kind_of(unicode::next(text, behind));
  }
  if (kind != Kind::blank) return end_of(text, text[0] == ' ' ? 1 : 0, kind);
  // Blanks but for the last, which the next word may take; a single one is a word.
  size_t last = 0, end = 0;
  for (at = 0; at < text.size(); end = at) {
    const size_t here = at;
    if (kind_of(unicode::next(text, at)) != Kind::blank) break;
    last = here;
  }
  return end == text.size() || last == 0 ? end : last;
}

std::shared_ptr<const Tokenizer> make_byte_pairs(PieceTable table, const BytePairOptions& options,
                                                 const std::string& name) {
  return std::make_shared<BytePairs>(std::move(table), options, name);
}

}  // namespace tandem::data
