#include "nn/metrics/bleu.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <unordered_map>

#include "autograd/error.h"

namespace tandem::metrics {
namespace {

constexpr int kOrder = 4;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
}

using Counts = std::unordered_map<std::string, int64_t>;

// n-grams of a text, joined by a character that no token holds.
std::array<Counts, kOrder> ngrams(const std::vector<std::string>& tokens) {
  std::array<Counts, kOrder> counts;
  for (size_t begin = 0; begin < tokens.size(); ++begin) {
    std::string gram;
    for (int n = 0; n < kOrder && begin + n < tokens.size(); ++n) {
      gram += tokens[begin + n];
      gram += '\n';
      ++counts[n][gram];
    }
  }
  return counts;
}

void check_sizes(const char* what, const Texts& hypotheses, const Texts& reference) {
  check<ValueError>(hypotheses.size() == reference.size(), "{}: {} hypotheses, but {} references", what,
                    hypotheses.size(), reference.size());
  check<ValueError>(!hypotheses.empty(), "{}: no hypotheses", what);
}

}  // namespace

std::vector<std::string> tokenize_13a(const std::string& line) {
  std::string text = line;
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
  // The next three rules are regular expressions on pairs of characters that do not overlap: after a match
  // the search goes on behind it.
  const auto pairs = [](const std::string& in, auto matches, auto write) {
    std::string result;
    for (size_t i = 0; i < in.size();) {
      // A character of UTF-8 counts as one, and as neither digit nor punctuation.
      size_t length = 1;
      while (i + length < in.size() && (in[i + length] & 0xC0) == 0x80) ++length;
      size_t second = i + length, after = second + 1;
      while (after < in.size() && (in[after] & 0xC0) == 0x80) ++after;
      if (second < in.size() && matches(in[i], in[second])) {
        write(result, in.substr(i, length), in.substr(second, after - second));
        i = after;
      } else {
        result += in.substr(i, length);
        i += length;
      }
    }
    return result;
  };
  const auto stop = [](char c) { return c == '.' || c == ','; };
  // . and , unless a digit is before them; unless one is behind them; - behind a digit.
  out = pairs(
      out, [&](char a, char b) { return !is_digit(a) && stop(b); },
      [](std::string& to, const std::string& a, const std::string& b) { to += a + " " + b + " "; });
  out = pairs(
      out, [&](char a, char b) { return stop(a) && !is_digit(b); },
      [](std::string& to, const std::string& a, const std::string& b) { to += " " + a + " " + b; });
  out = pairs(
      out, [&](char a, char b) { return is_digit(a) && b == '-'; },
      [](std::string& to, const std::string& a, const std::string& b) { to += a + " " + b + " "; });
  std::vector<std::string> tokens;
  std::string token;
  for (char c : out + " ") {
    if (!is_space(c)) {
      token += c;
    } else if (!token.empty()) {
      tokens.push_back(std::move(token));
      token.clear();
    }
  }
  return tokens;
}

std::string Bleu::signature() const {
  return "nrefs:" + std::to_string(references) + "|case:mixed|eff:no|tok:13a|smooth:exp";
}

Bleu corpus_bleu(const Texts& hypotheses, const std::vector<Texts>& references) {
  check<ValueError>(!references.empty(), "bleu: no references");
  for (const Texts& reference : references) check_sizes("bleu", hypotheses, reference);
  Bleu bleu;
  bleu.references = static_cast<int64_t>(references.size());
  std::array<int64_t, kOrder> correct{}, total{};
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const std::vector<std::string> tokens = tokenize_13a(hypotheses[i]);
    const auto length = static_cast<int64_t>(tokens.size());
    std::array<Counts, kOrder> most;  // of each n-gram in any one reference
    int64_t closest = -1;
    for (const Texts& reference : references) {
      const std::vector<std::string> words = tokenize_13a(reference[i]);
      const auto size = static_cast<int64_t>(words.size());
      const int64_t distance = std::abs(size - length), best = std::abs(closest - length);
      if (closest < 0 || distance < best || (distance == best && size < closest)) closest = size;
      const auto counts = ngrams(words);
      for (int n = 0; n < kOrder; ++n)
        for (const auto& [gram, count] : counts[n]) most[n][gram] = std::max(most[n][gram], count);
    }
    const auto counts = ngrams(tokens);
    for (int n = 0; n < kOrder; ++n) {
      for (const auto& [gram, count] : counts[n]) {
        total[n] += count;
        const auto found = most[n].find(gram);
        if (found != most[n].end()) correct[n] += std::min(count, found->second);
      }
    }
    bleu.hypothesis_length += length;
    bleu.reference_length += closest;
  }
  const double ratio =
      bleu.hypothesis_length == 0 ? 0 : static_cast<double>(bleu.reference_length) / bleu.hypothesis_length;
  bleu.brevity_penalty = bleu.hypothesis_length == 0 ? 0 : ratio > 1 ? std::exp(1 - ratio) : 1;
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

Bleu corpus_bleu(const Texts& hypotheses, const Texts& reference) {
  return corpus_bleu(hypotheses, std::vector<Texts>{reference});
}

double corpus_chrf(const Texts& hypotheses, const Texts& reference) {
  check_sizes("chrF", hypotheses, reference);
  constexpr int kOrders = 6;
  constexpr double kBeta2 = 4;
  std::array<int64_t, kOrders> hypothesis{}, expected{}, matches{};
  const auto characters = [](const std::string& text) {
    std::vector<std::string> out;
    for (size_t i = 0; i < text.size();) {
      size_t length = 1;
      while (i + length < text.size() && (text[i + length] & 0xC0) == 0x80) ++length;
      const std::string one = text.substr(i, length);
      if (!(length == 1 && is_space(one[0])) && one != "\u00A0" && one != "\u3000" && one != "\u2009")
        out.push_back(one);
      i += length;
    }
    return out;
  };
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const auto a = characters(hypotheses[i]), b = characters(reference[i]);
    for (int n = 1; n <= kOrders; ++n) {
      std::map<std::string, std::pair<int64_t, int64_t>> counts;
      const auto add = [&](const std::vector<std::string>& text, auto member) {
        for (size_t at = 0; at + n <= text.size(); ++at) {
          std::string gram;
          for (int k = 0; k < n; ++k) gram += text[at + k];
          ++(counts[gram].*member);
        }
      };
      add(a, &std::pair<int64_t, int64_t>::first);
      add(b, &std::pair<int64_t, int64_t>::second);
      for (const auto& [gram, count] : counts) {
        hypothesis[n - 1] += count.first;
        expected[n - 1] += count.second;
        matches[n - 1] += std::min(count.first, count.second);
      }
    }
  }
  // The mean over the orders that both sides have n-grams of (sacreBLEU's effective order), of precision and
  // recall each.
  double precision = 0, recall = 0;
  int orders = 0;
  for (int n = 0; n < kOrders; ++n) {
    if (hypothesis[n] == 0 || expected[n] == 0) continue;
    precision += static_cast<double>(matches[n]) / hypothesis[n];
    recall += static_cast<double>(matches[n]) / expected[n];
    ++orders;
  }
  if (orders == 0) return 0;
  precision /= orders, recall /= orders;
  const double below = kBeta2 * precision + recall;
  return below > 0 ? 100 * (1 + kBeta2) * precision * recall / below : 0;
}

}  // namespace tandem::metrics
