#include "nn/data/tokenizers/wordpiece.h"

#include <algorithm>

#include "nn/data/tokenizers/unicode.h"

namespace tandem::data {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

bool is_ascii(char c) { return static_cast<uint8_t>(c) < 0x80; }

// What cleaning makes of a code point: a blank, nothing (0), or itself.
char32_t cleaned(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return ' ';
  if (c == kReplacement || unicode::is_control(c)) return 0;
  return unicode::is_space(c) ? ' ' : c;
}

bool is_dropped(char c, const BertText& options) {
  return options.clean && (uint8_t(c) < ' ' || c == 0x7F) && c != '\t' && c != '\n' && c != '\r';
}

// Code points that are not ASCII, and what cleaning drops between them: marks are ordered across it.
void append_run(std::string& out, std::string_view run, const BertText& options) {
  std::string text;
  for (size_t at = 0; at < run.size();) {
    char32_t c = unicode::next(run, at);
    if (options.clean) c = cleaned(c);
    if (c == 0) continue;
    const bool word = options.chinese_words && unicode::is_chinese(c);
    if (word) text += ' ';
    unicode::append(text, c);
    if (word) text += ' ';
  }
  if (options.strip_accents) text = unicode::decomposed(text);
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    if (options.strip_accents && unicode::is_accent(c)) continue;
    options.lower ? unicode::append_lower(out, c) : unicode::append(out, c);
  }
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// Of one piece with the blank before it.
std::string cleaned_up(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) text = replaced(std::move(text), from, to);
  return text;
}

class WordPiece final : public PieceTokenizer {
 public:
  WordPiece(PieceTable table, const WordPieceOptions& options)
      : PieceTokenizer(std::move(table),
                       [text = options.text](std::string_view t) { return normalized(t, text); }),
        options_(options) {
    std::vector<SortedPieces::Entry> first, later;
    for (size_t i = 0; i < pieces().size(); ++i) {
      const std::string_view piece = pieces()[i];
      first.push_back({piece, static_cast<int64_t>(i)});
      if (piece.starts_with(options.prefix))
        later.push_back({piece.substr(options.prefix.size()), static_cast<int64_t>(i)});
    }
    first_ = SortedPieces(std::move(first)), later_ = SortedPieces(std::move(later));
  }

  std::string decode(std::span<const int64_t> ids) const override {
    std::string text;
    bool begun = false;
    for (int64_t id : ids) {
      std::string piece = shown(id);
      if (piece.empty() || special.contains(id)) continue;
      if (begun && piece.starts_with(options_.prefix)) {
        piece.erase(0, options_.prefix.size());
      } else if (begun) {
        piece.insert(piece.begin(), ' ');
      }
      text += options_.cleanup ? cleaned_up(std::move(piece)) : piece;
      begun = true;
    }
    return text;
  }

 private:
  // Words are what is between blanks, and each punctuation mark.
  void append_ids(std::string_view text, Ids& ids) const override {
    size_t begin = 0;
    int64_t length = 0;  // of the word from `begin` on
    for (size_t at = 0; at < text.size();) {
      const size_t here = at;
      const char32_t c = unicode::next(text, at);
      const bool blank = unicode::is_space(c), mark = !blank && unicode::is_punctuation(c);
      if (!blank && !mark) {
        ++length;
        continue;
      }
      append_word(text.substr(begin, here - begin), length, ids);
      if (mark) append_word(text.substr(here, at - here), 1, ids);
      begin = at, length = 0;
    }
    append_word(text.substr(begin), length, ids);
  }

  void append_word(std::string_view word, int64_t length, Ids& ids) const {
    const size_t before = ids.size();
    bool known = length <= options_.longest_word;
    for (size_t at = 0; known && at < word.size();) {
      const SortedPieces::Match match = (at == 0 ? first_ : later_).longest(word.substr(at));
      ids.push_back(match.id);
      at += match.length;
      known = match.length > 0;
    }
    if (known) return;
    ids.resize(before);
    ids.push_back(special.unk);
  }

  WordPieceOptions options_;
  SortedPieces first_, later_;  // where a word begins, and behind that, without the prefix
};

}  // namespace

std::string normalized(std::string_view text, const BertText& options) {
  std::string out;
  out.reserve(text.size() + 16);
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (!is_ascii(c)) {
      size_t end = at;
      while (end < text.size() && (!is_ascii(text[end]) || is_dropped(text[end], options))) ++end;
      append_run(out, text.substr(at, end - at), options);
      at = end;
      continue;
    }
    ++at;
    if (is_dropped(c, options)) continue;
    if (options.clean && c < ' ') {
      out += ' ';
    } else {
      out += options.lower && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return out;
}

std::shared_ptr<const Tokenizer> make_wordpiece(PieceTable table, const WordPieceOptions& options) {
  return std::make_shared<WordPiece>(std::move(table), options);
}

}  // namespace tandem::data
