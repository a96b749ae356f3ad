#include "nn/metrics/rouge.h"

#include <algorithm>

#include "nn/metrics/characters.h"

namespace tandem::metrics {
namespace {

using Tokens = std::vector<std::string>;

Tokens tokenize(const std::string& text) {
  Tokens tokens(1);
  for (std::string_view character : characters(text)) {
    char c = character.size() == 1 ? character[0] : ' ';
    // Two capitals outside of ASCII have lower-case letters inside of it: the Kelvin sign, and I with a dot,
    // which becomes two characters.
    if (character == "\u212A") c = 'k';
    if (character == "\u0130") c = 'i';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool part = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (part) tokens.back() += c;
    if ((!part || character == "\u0130") && !tokens.back().empty()) tokens.emplace_back();
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

Rouge rouge(const std::vector<std::string>& hypotheses, const std::vector<std::string>& references) {
  check_texts("rouge", hypotheses, references);
  Rouge sum;
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const Tokens a = tokenize(hypotheses[i]), b = tokenize(references[i]);
    sum.rouge1 += overlap(a, b, 1), sum.rouge2 += overlap(a, b, 2);
    sum.rougeL += longest_common_subsequence(a, b);
  }
  const double scale = 100.0 / static_cast<double>(hypotheses.size());
  return {sum.rouge1 * scale, sum.rouge2 * scale, sum.rougeL * scale};
}

}  // namespace tandem::metrics
