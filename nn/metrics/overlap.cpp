#include "nn/metrics/overlap.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <unordered_map>

namespace tandem::metrics {
namespace {

// Whatever is outside of ASCII counts as a letter.
std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  std::string word;
  for (char c : text + " ") {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c & 0x80) != 0) {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::move(word));
      word.clear();
    }
  }
  return words;
}

}  // namespace

std::vector<double> nearest_overlap(const std::vector<std::string>& sources,
                                    const std::vector<std::string>& training_sources) {
  std::unordered_map<std::string, std::vector<size_t>> texts_with;  // positions in training_sources
  std::vector<size_t> sizes;
  for (size_t i = 0; i < training_sources.size(); ++i) {
    const std::set<std::string> words = words_of(training_sources[i]);
    for (const std::string& word : words) texts_with[word].push_back(i);
    sizes.push_back(words.size());
  }
  std::vector<double> result;
  std::vector<uint32_t> common(training_sources.size());
  std::vector<size_t> met;
  for (const std::string& source : sources) {
    const std::set<std::string> words = words_of(source);
    for (const std::string& word : words) {
      const auto found = texts_with.find(word);
      if (found == texts_with.end()) continue;
      for (size_t i : found->second)
        if (common[i]++ == 0) met.push_back(i);
    }
    double best = 0;
    for (size_t i : met) {
      best = std::max(
          best, static_cast<double>(common[i]) / static_cast<double>(words.size() + sizes[i] - common[i]));
      common[i] = 0;
    }
    met.clear();
    result.push_back(best);
  }
  return result;
}

}  // namespace tandem::metrics
