#include "nn/metrics/chrf.h"

#include <algorithm>

#include "nn/metrics/characters.h"

namespace tandem::metrics {
namespace {

constexpr double kBeta2 = 4;  // beta 2, squared

bool is_punctuation(std::string_view c) {
  return c.size() == 1 && c[0] > ' ' && c[0] < 0x7F && !(c[0] >= '0' && c[0] <= '9') &&
         !(c[0] >= 'A' && c[0] <= 'Z') && !(c[0] >= 'a' && c[0] <= 'z');
}

// Words, with one character of punctuation at their end, or else at their beginning, by itself.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (const std::string& word : split_words(text)) {
    const auto parts = characters(word);
    if (parts.size() > 1 && is_punctuation(parts.back())) {
      words.push_back(word.substr(0, word.size() - 1));
      words.emplace_back(parts.back());
    } else if (parts.size() > 1 && is_punctuation(parts.front())) {
      words.emplace_back(parts.front());
      words.push_back(word.substr(1));
    } else {
      words.push_back(word);
    }
  }
  return words;
}

// Of each order: first those of characters, then those of words.
std::vector<Counts> all_ngrams(const std::string& text, const ChrfOptions& options) {
  std::vector<std::string_view> letters = characters(text);
  std::erase_if(letters, is_white_space);
  std::vector<Counts> orders;
  for (int n = 1; n <= options.character_order; ++n) orders.push_back(ngrams(letters, n, ""));
  if (options.word_order == 0) return orders;
  const std::vector<std::string> words = words_of(text);
  for (int n = 1; n <= options.word_order; ++n) orders.push_back(ngrams(words, n, " "));
  return orders;
}

struct Matches {
  int64_t hypothesis = 0, reference = 0, both = 0;
};

Matches compare(const Counts& hypothesis, const Counts& reference) {
  if (reference.empty()) return {};  // nothing that could match: no part in the precision either
  return {total(hypothesis), total(reference), in_both(hypothesis, reference)};
}

// Of the mean precision and the mean recall over the orders that both sides have n-grams of.
double f_score(const std::vector<Matches>& matches) {
  double precision = 0, recall = 0;
  int orders = 0;
  for (const Matches& m : matches) {
    if (m.hypothesis == 0 || m.reference == 0) continue;
    precision += static_cast<double>(m.both) / static_cast<double>(m.hypothesis);
    recall += static_cast<double>(m.both) / static_cast<double>(m.reference);
    ++orders;
  }
  if (precision + recall == 0) return 0;
  precision /= orders, recall /= orders;
  return 100 * (1 + kBeta2) * precision * recall / (kBeta2 * precision + recall);
}

}  // namespace

std::string Chrf::signature() const {
  return fmt::format("nrefs:{}|case:mixed|eff:yes|nc:{}|nw:{}|space:no", references, options.character_order,
                     options.word_order);
}

Chrf corpus_chrf(const std::vector<std::string>& hypotheses,
                 const std::vector<std::vector<std::string>>& references, const ChrfOptions& options) {
  check<ValueError>(options.character_order >= 1 && options.word_order >= 0,
                    "chrF: expected character_order >= 1 and word_order >= 0, got {} and {}",
                    options.character_order, options.word_order);
  check<ValueError>(!references.empty(), "chrF: no references");
  for (const auto& reference : references) check_texts("chrF", hypotheses, reference);
  std::vector<Matches> sums(options.character_order + options.word_order);
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const std::vector<Counts> hypothesis = all_ngrams(hypotheses[i], options);
    std::vector<Matches> best;  // of the reference that gives this segment the highest score
    double best_score = -1;
    for (const auto& reference : references) {
      const std::vector<Counts> expected = all_ngrams(reference[i], options);
      std::vector<Matches> matches;
      for (size_t n = 0; n < expected.size(); ++n) matches.push_back(compare(hypothesis[n], expected[n]));
      if (const double score = f_score(matches); score > best_score) {
        best_score = score;
        best = std::move(matches);
      }
    }
    for (size_t n = 0; n < sums.size(); ++n) {
      sums[n].hypothesis += best[n].hypothesis;
      sums[n].reference += best[n].reference;
      sums[n].both += best[n].both;
    }
  }
  return {f_score(sums), static_cast<int64_t>(references.size()), options};
}

Chrf corpus_chrf(const std::vector<std::string>& hypotheses, const std::vector<std::string>& reference,
                 const ChrfOptions& options) {
  return corpus_chrf(hypotheses, std::vector<std::vector<std::string>>{reference}, options);
}

}  // namespace tandem::metrics
