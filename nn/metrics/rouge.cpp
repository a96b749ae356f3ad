#include "nn/metrics/rouge.h"

#include <algorithm>

#include "nn/metrics/characters.h"

namespace tandem::metrics {
namespace {

using Tokens = std::vector<std::string>;

char32_t code_point(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  char32_t code = character.size() == 1 ? lead : lead & (0x7F >> character.size());
  for (size_t i = 1; i < character.size(); ++i) code = code << 6 | (character[i] & 0x3F);
  return code;
}

// From the Greek letters on, every character but for the blocks of punctuation, symbols and pictures.
bool beyond_latin(char32_t c) {
  constexpr std::u32string_view kMarks =
      U"\u037E\u0387\u0589\u05BE\u05C0\u05C3\u05F3\u05F4\u060C\u061B\u061F\u066A\u066B\u066C\u066D\u06D4"
      U"\u0964\u0965";
  const auto within = [c](char32_t first, char32_t last) { return first <= c && c <= last; };
  return c >= 0x370 && kMarks.find(c) == kMarks.npos && !within(0x2000, 0x2BFF) && !within(0x3000, 0x303F) &&
         !within(0xFE00, 0xFE6F) && !within(0xFF00, 0xFF0F) && !within(0xFF1A, 0xFF20) &&
         !within(0xFF3B, 0xFF40) && !within(0xFF5B, 0xFF65) && c != 0xFEFF && !within(0x1F000, 0x1FAFF);
}
// Chinese and Japanese have no blanks: each character counts.
bool is_word_by_itself(char32_t c) {
  return (c >= 0x2E80 && c < 0xA000) || (c >= 0xF900 && c < 0xFB00) || (c >= 0x20000 && c < 0x40000);
}

// Capitals of Greek and Cyrillic, in UTF-8 of two bytes, become small ones.
std::string small_letter(std::string_view character, char32_t c) {
  if ((c >= 0x391 && c <= 0x3A9) || (c >= 0x410 && c <= 0x42F))
    c += 0x20;
  else if (c >= 0x400 && c <= 0x40F)
    c += 0x50;
  else
    return std::string(character);
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
}

// rouge-score sees a-z and 0-9 alone, and says 0 of texts in another script: where most letters of the
// references are beyond Latin, those are parts of words, too.
bool mostly_beyond_latin(const std::vector<std::string>& texts) {
  int64_t latin = 0, beyond = 0;
  for (const std::string& text : texts) {
    for (std::string_view character : characters(text)) {
      const char32_t c = code_point(character);
      latin += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      beyond += beyond_latin(c);
    }
  }
  return beyond > latin;
}

Tokens tokenize(const std::string& text, bool every_script) {
  Tokens tokens(1);
  const auto end_word = [&tokens] {
    if (!tokens.back().empty()) tokens.emplace_back();
  };
  for (std::string_view character : characters(text)) {
    char c = character.size() == 1 ? character[0] : ' ';
    // Two capitals outside of ASCII have lower-case letters inside of it: the Kelvin sign, and I with a dot,
    // which becomes two characters.
    if (character == "\u212A") c = 'k';
    if (character == "\u0130") c = 'i';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const char32_t code = code_point(character);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      tokens.back() += c;
      if (character == "\u0130") end_word();
    } else if (every_script && beyond_latin(code)) {
      if (is_word_by_itself(code)) end_word();
      tokens.back() += small_letter(character, code);
      if (is_word_by_itself(code)) end_word();
    } else {
      end_word();
    }
  }
  if (tokens.back().empty()) tokens.pop_back();
  return tokens;
}

double f_measure(int64_t matches, int64_t hypothesis, int64_t reference) {
  if (matches == 0) return 0;
  const double p = static_cast<double>(matches) / hypothesis, r = static_cast<double>(matches) / reference;
  return 2 * p * r / (p + r);
}

double overlap(const Tokens& a, const Tokens& b, int n) {
  const Counts in_a = ngrams(a, n, " "), in_b = ngrams(b, n, " ");
  return f_measure(in_both(in_a, in_b), total(in_a), total(in_b));
}

double longest_common_subsequence(const Tokens& a, const Tokens& b) {
  std::vector<int64_t> row(b.size() + 1);
  for (const std::string& word : a) {
    int64_t diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t above = row[j + 1];
      row[j + 1] = word == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return f_measure(row.back(), std::ssize(a), std::ssize(b));
}

}  // namespace

std::vector<Rouge> rouge_of_pairs(const std::vector<std::string>& hypotheses,
                                  const std::vector<std::string>& references) {
  check_texts("rouge", hypotheses, references);
  const bool every_script = mostly_beyond_latin(references);
  std::vector<Rouge> pairs;
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const Tokens a = tokenize(hypotheses[i], every_script), b = tokenize(references[i], every_script);
    pairs.push_back({100 * overlap(a, b, 1), 100 * overlap(a, b, 2), 100 * longest_common_subsequence(a, b)});
  }
  return pairs;
}

Rouge rouge(const std::vector<std::string>& hypotheses, const std::vector<std::string>& references) {
  Rouge sum;
  for (const Rouge& pair : rouge_of_pairs(hypotheses, references))
    sum.rouge1 += pair.rouge1, sum.rouge2 += pair.rouge2, sum.rougeL += pair.rougeL;
  const auto count = static_cast<double>(hypotheses.size());
  return {sum.rouge1 / count, sum.rouge2 / count, sum.rougeL / count};
}

}  // namespace tandem::metrics
