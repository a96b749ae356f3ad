#include "nn/metrics/bleu.h"

#include <algorithm>
#include <cmath>

#include "nn/metrics/characters.h"

namespace tandem::metrics {
namespace {

constexpr int kOrder = 4;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_stop(char c) { return c == '.' || c == ','; }

// What replacing a regular expression for two characters does: after a match the search goes on behind both.
// A blank goes between them, and in front of the first or behind the second. (Bytes will do: in these pairs,
// only the outer byte of a longer character can stand.)
template <class Matches> std::string separate(const std::string& text, Matches matches, bool in_front) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 == text.size() || !matches(text[i], text[i + 1])) {
      out += text[i];
      continue;
    }
    if (in_front) out += ' ';
    (out += text[i]) += ' ';
    out += text[++i];
    if (!in_front) out += ' ';
  }
  return out;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
}

// Joined by a character that no token holds.
std::array<Counts, kOrder> all_ngrams(const std::vector<std::string>& tokens) {
  std::array<Counts, kOrder> counts;
  for (int n = 0; n < kOrder; ++n) counts[n] = ngrams(tokens, n + 1, "\n");
  return counts;
}

}  // namespace

std::vector<std::string> tokenize_13a(const std::string& line) {
  // The end's white space goes first: a line end there does not join "-" to a next line.
  std::string text = line;
  for (auto parts = characters(text); !parts.empty() && is_white_space(parts.back()); parts.pop_back())
    text.resize(text.size() - parts.back().size());
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  if (text.find('&') != std::string::npos) {
    replace_all(text, "&quot;", "\"");
    replace_all(text, "&amp;", "&");
    replace_all(text, "&lt;", "<");
    replace_all(text, "&gt;", ">");
  }
  text = " " + text + " ";
  // ASCII symbols but . , - ' stand alone.
  std::string out;
  for (char c : text) {
    const bool symbol = (c >= '{' && c <= '~') || (c >= '[' && c <= '`') ||
                        (c >= ' ' && c <= '&' && c != ' ') || (c >= '(' && c <= '+') ||
                        (c >= ':' && c <= '@') || c == '/';
    if (symbol) {
      out += ' ';
      out += c;
      out += ' ';
    } else {
      out += c;
    }
  }
  out = separate(
      out, [](char a, char b) { return !is_digit(a) && is_stop(b); }, false);
  out = separate(
      out, [](char a, char b) { return is_stop(a) && !is_digit(b); }, true);
  out = separate(
      out, [](char a, char b) { return is_digit(a) && b == '-'; }, false);
  return split_words(out);
}

std::string Bleu::signature() const {
  return "nrefs:" + std::to_string(references) + "|case:mixed|eff:no|tok:13a|smooth:exp";
}

BleuCounts& BleuCounts::operator+=(const BleuCounts& other) {
  for (int n = 0; n < kOrder; ++n) correct[n] += other.correct[n], total[n] += other.total[n];
  hypothesis_length += other.hypothesis_length, reference_length += other.reference_length;
  return *this;
}

std::vector<BleuCounts> bleu_counts(const Texts& hypotheses, const std::vector<Texts>& references) {
  check<ValueError>(!references.empty(), "bleu: no references");
  for (const Texts& reference : references) check_texts("bleu", hypotheses, reference);
  std::vector<BleuCounts> pairs(hypotheses.size());
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    BleuCounts& pair = pairs[i];
    const std::vector<std::string> tokens = tokenize_13a(hypotheses[i]);
    pair.hypothesis_length = std::ssize(tokens);
    std::array<Counts, kOrder> most;  // of each n-gram in any one reference
    int64_t closest = -1;
    for (const Texts& reference : references) {
      const std::vector<std::string> words = tokenize_13a(reference[i]);
      const int64_t size = std::ssize(words), length = pair.hypothesis_length,
                    distance = std::abs(size - length), best = std::abs(closest - length);
      if (closest < 0 || distance < best || (distance == best && size < closest)) closest = size;
      const auto counts = all_ngrams(words);
      for (int n = 0; n < kOrder; ++n)
        for (const auto& [gram, count] : counts[n]) most[n][gram] = std::max(most[n][gram], count);
    }
    pair.reference_length = closest;
    const auto counts = all_ngrams(tokens);
    for (int n = 0; n < kOrder; ++n)
      pair.total[n] = metrics::total(counts[n]), pair.correct[n] = in_both(counts[n], most[n]);
  }
  return pairs;
}

Bleu bleu_of(const BleuCounts& sum) {
  const auto& [correct, total, hypothesis_length, reference_length] = sum;
  Bleu bleu{.hypothesis_length = hypothesis_length, .reference_length = reference_length};
  // exp(-infinity) = 0 for a hypothesis of no token.
  bleu.brevity_penalty =
      hypothesis_length >= reference_length
          ? 1
          : std::exp(1 - static_cast<double>(reference_length) / static_cast<double>(hypothesis_length));
  if (std::all_of(correct.begin(), correct.end(), [](int64_t c) { return c == 0; })) return bleu;
  double log_sum = 0, smooth = 1;
  for (int n = 0; n < kOrder; ++n) {
    if (total[n] == 0) {  // texts of fewer tokens than n
      log_sum = -INFINITY;
      break;
    }
    if (correct[n] == 0) {
      smooth *= 2;
      bleu.precisions[n] = 100 / (smooth * static_cast<double>(total[n]));
    } else {
      bleu.precisions[n] = 100 * static_cast<double>(correct[n]) / static_cast<double>(total[n]);
    }
    log_sum += std::log(bleu.precisions[n]);
  }
  bleu.score = bleu.brevity_penalty * std::exp(log_sum / kOrder);
  return bleu;
}

Bleu corpus_bleu(const Texts& hypotheses, const std::vector<Texts>& references) {
  BleuCounts sum;
  for (const BleuCounts& pair : bleu_counts(hypotheses, references)) sum += pair;
  Bleu bleu = bleu_of(sum);
  bleu.references = std::ssize(references);
  return bleu;
}

Bleu corpus_bleu(const Texts& hypotheses, const Texts& reference) {
  return corpus_bleu(hypotheses, std::vector<Texts>{reference});
}

}  // namespace tandem::metrics
