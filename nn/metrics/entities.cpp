#include "nn/metrics/entities.h"

#include <algorithm>
#include <map>
#include <utility>

#include "autograd/error.h"

namespace tandem::metrics {
namespace {

// "B-PER" is 'B' and "PER".
std::pair<char, std::string> parts_of(const std::string& tag) {
  std::string type = tag.substr(1);
  if (const size_t hyphen = type.find('-'); hyphen != std::string::npos) type = type.substr(hyphen + 1);
  return {tag[0], type.empty() ? "_" : type};
}

bool among(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

// Between two neighbours: whether a span ends before the second, and whether one begins there.
bool ends(char before, char now, bool same_type) {
  return among(before, "ES") || (among(before, "BI") && among(now, "BSO")) ||
         (!among(before, "O.") && !same_type);
}
bool begins(char before, char now, bool same_type) {
  return among(now, "BS") || (among(before, "ESO") && among(now, "EI")) || (!among(now, "O.") && !same_type);
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

// Sentences as one, a tag of no span after each: what has no place in a scheme may reach over it, as there.
Tags joined(const std::vector<Tags>& sentences) {
  Tags all;
  for (const Tags& tags : sentences) {
    all.insert(all.end(), tags.begin(), tags.end());
    all.emplace_back("O");
  }
  return all;
}

struct Counts {
  int64_t found = 0, expected = 0, both = 0;
  double f1() const { return ratio(2.0 * static_cast<double>(both), static_cast<double>(found + expected)); }
};

}  // namespace

std::vector<Entity> entities(const Tags& tags) {
  std::vector<Entity> spans;
  char before = 'O';
  std::string type;
  int64_t begin = 0;
  for (size_t i = 0; i <= tags.size(); ++i) {
    check<ValueError>(i == tags.size() || !tags[i].empty(), "entities: tag {} is empty", i);
    auto [now, now_type] = parts_of(i < tags.size() ? tags[i] : "O");
    const bool same = type == now_type;
    const auto at = static_cast<int64_t>(i);
    if (ends(before, now, same)) spans.push_back({type, begin, at});
    if (begins(before, now, same)) begin = at;
    before = now, type = std::move(now_type);
  }
  return spans;
}

EntityScores entity_scores(const std::vector<Tags>& predicted, const std::vector<Tags>& target) {
  check<ValueError>(predicted.size() == target.size() && !target.empty(),
                    "entity_scores: {} predicted sentences, {} targets, expected as many and one at least",
                    predicted.size(), target.size());
  for (size_t i = 0; i < target.size(); ++i)
    check<ValueError>(predicted[i].size() == target[i].size(),
                      "entity_scores: sentence {}: {} tags for {} words", i, predicted[i].size(),
                      target[i].size());
  std::map<std::string, Counts> types;
  std::vector<Entity> found = entities(joined(predicted));
  std::sort(found.begin(), found.end());
  for (const Entity& span : found) ++types[span.type].found;
  for (const Entity& span : entities(joined(target))) {
    ++types[span.type].expected;
    types[span.type].both += std::binary_search(found.begin(), found.end(), span);
  }
  EntityScores scores;
  Counts all;
  for (const auto& [type, c] : types) {
    all.found += c.found, all.expected += c.expected, all.both += c.both;
    scores.macro_f1 += c.f1() / static_cast<double>(types.size());
  }
  const auto both = static_cast<double>(all.both);
  scores.precision = ratio(both, static_cast<double>(all.found));
  scores.recall = ratio(both, static_cast<double>(all.expected));
  scores.f1 = all.f1();
  scores.found = all.found, scores.expected = all.expected;
  return scores;
}

}  // namespace tandem::metrics
