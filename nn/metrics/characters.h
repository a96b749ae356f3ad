// Texts by characters, as the reference implementations in Python take them apart, and counts of n-grams.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "autograd/error.h"

namespace tandem::metrics {

// The characters of UTF-8 (a byte that does not belong to one is one by itself or part of its neighbour).
inline std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    while (i + length < text.size() && (text[i + length] & 0xC0) == 0x80) ++length;
    out.push_back(text.substr(i, length));
    i += length;
  }
  return out;
}

// What Python's str.isspace() calls white space, also outside of ASCII.
inline bool is_white_space(std::string_view c) {
  if (c.size() == 1) return c[0] == ' ' || (c[0] >= '\t' && c[0] <= '\r') || (c[0] >= 0x1C && c[0] <= 0x1F);
  if (c.size() == 2) return c == "\u0085" || c == "\u00A0";
  if (c.size() != 3) return false;
  return (c >= "\u2000" && c <= "\u200A") || c == "\u1680" || c == "\u2028" || c == "\u2029" ||
         c == "\u202F" || c == "\u205F" || c == "\u3000";
}

// The parts between white space.
inline std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words(1);
  for (std::string_view c : characters(text)) {
    if (!is_white_space(c)) {
      words.back() += c;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

using Counts = std::unordered_map<std::string, int64_t>;

// n-grams of a text's parts, each followed by `separator`.
template <class Parts> Counts ngrams(const Parts& parts, int n, std::string_view separator) {
  Counts counts;
  for (size_t begin = 0; begin + n <= parts.size(); ++begin) {
    std::string gram;
    for (int k = 0; k < n; ++k) (gram += parts[begin + k]) += separator;
    ++counts[gram];
  }
  return counts;
}

// How many both have.
inline int64_t in_both(const Counts& a, const Counts& b) {
  int64_t both = 0;
  for (const auto& [gram, count] : a)
    if (const auto found = b.find(gram); found != b.end()) both += std::min(count, found->second);
  return both;
}
inline int64_t total(const Counts& counts) {
  int64_t sum = 0;
  for (const auto& [gram, count] : counts) sum += count;
  return sum;
}

// ValueError naming the metric unless there are texts, as many on both sides.
inline void check_texts(const char* metric, const std::vector<std::string>& hypotheses,
                        const std::vector<std::string>& references) {
  check<ValueError>(hypotheses.size() == references.size(), "{}: {} hypotheses, but {} references", metric,
                    hypotheses.size(), references.size());
  check<ValueError>(!hypotheses.empty(), "{}: no hypotheses", metric);
}

}  // namespace tandem::metrics
