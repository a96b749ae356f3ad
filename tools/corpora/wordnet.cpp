// Supersenses (classification) and similarity of glosses (regression) from WordNet's noun and verb files.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "tools/corpora/corpus.h"
#include "tools/corpora/unicode.h"

namespace tandem::data {
namespace {

// WordNet's lexicographer files (lexnames(5WN)), by number.
constexpr std::array kLexicographerFiles{"adj.all",          "adj.pert",           "adv.all",
                                         "noun.Tops",        "noun.act",           "noun.animal",
                                         "noun.artifact",    "noun.attribute",     "noun.body",
                                         "noun.cognition",   "noun.communication", "noun.event",
                                         "noun.feeling",     "noun.food",          "noun.group",
                                         "noun.location",    "noun.motive",        "noun.object",
                                         "noun.person",      "noun.phenomenon",    "noun.plant",
                                         "noun.possession",  "noun.process",       "noun.quantity",
                                         "noun.relation",    "noun.shape",         "noun.state",
                                         "noun.substance",   "noun.time",          "verb.body",
                                         "verb.change",      "verb.cognition",     "verb.communication",
                                         "verb.competition", "verb.consumption",   "verb.contact",
                                         "verb.creation",    "verb.emotion",       "verb.motion",
                                         "verb.perception",  "verb.possession",    "verb.social",
                                         "verb.stative",     "verb.weather",       "adj.ppl"};

struct Synset {
  std::string file, gloss;
  std::vector<std::string> words;      // that mean it
  std::vector<std::string> hypernyms;  // keys
};
// By "n" or "v" and the offset: the order of nouns, then verbs, each by offset.
using Synsets = std::map<std::string, Synset>;

void read_synsets(char kind, const std::string& content, Synsets& synsets) {
  const std::string name = kind == 'n' ? "data.noun" : "data.verb";
  int64_t number = 0;
  std::istringstream lines(content);
  for (std::string raw; std::getline(lines, raw);) {
    ++number;
    if (raw.starts_with("  ")) continue;  // the licence
    const std::string line = from_latin1(raw);
    const size_t bar = line.find(" | ");
    std::istringstream fields(line.substr(0, bar));
    std::string offset, type, count_text, word;
    size_t file = 0;
    int64_t pointers = -1;
    fields >> offset >> file >> type >> count_text;
    const int64_t words = count_text.empty() ? -1 : std::strtol(count_text.c_str(), nullptr, 16);
    std::vector<std::string> own;
    for (int64_t i = 0; i < 2 * words; ++i) {
      fields >> word;
      if (i % 2 == 0) own.push_back(word);
    }
    fields >> pointers;
    check<IoError>(bar != std::string::npos && fields && file < kLexicographerFiles.size() && pointers >= 0,
                   "{}:{}: not a line of WordNet 3.0: '{}'", name, number, line.substr(0, 40));
    Synset synset{kLexicographerFiles[file], {}, std::move(own), {}};
    for (int64_t i = 0; i < pointers; ++i) {
      std::string symbol, target, part, places;
      fields >> symbol >> target >> part >> places;
      check<IoError>(static_cast<bool>(fields), "{}:{}: expected {} pointers, got {}", name, number, pointers,
                     i);
      if (symbol == "@" || symbol == "@i") synset.hypernyms.push_back(kind + target);
    }
    const std::string whole = line.substr(bar + 3);
    synset.gloss = collapse_spaces(whole.substr(0, whole.find("; \"")));  // without the examples
    synsets[kind + offset] = std::move(synset);
  }
  check<IoError>(!synsets.empty(), "{}: no synsets", name);
}

Synsets read_wordnet(const std::string& nouns, const std::string& verbs) {
  Synsets synsets;
  read_synsets('n', nouns, synsets);
  read_synsets('v', verbs, synsets);
  return synsets;
}

// Distances to everything above a synset, itself included.
using Above = std::map<std::string, int64_t>;
const Above& above(const std::string& key, const Synsets& synsets, std::map<std::string, Above>& known) {
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  Above all{{key, 0}};
  known[key] = all;  // were there a cycle, it would end here
  for (const std::string& parent : synsets.at(key).hypernyms) {
    if (!synsets.contains(parent)) continue;
    for (const auto& [ancestor, distance] : above(parent, synsets, known)) {
      const auto [place, added] = all.emplace(ancestor, distance + 1);
      if (!added) place->second = std::min(place->second, distance + 1);
    }
  }
  return known[key] = std::move(all);
}

}  // namespace

// "class<TAB>gloss" of nouns and verbs: the glosses without their examples, of 3 words and more, each
// (letters and digits) once; keyed by the gloss.
Splits supersense(const std::string& nouns, const std::string& verbs) {
  Splits splits;
  std::set<std::string> seen;
  for (const auto& [key, synset] : read_wordnet(nouns, verbs)) {
    const std::string letters = letters_and_digits(synset.gloss);
    if (std::count(letters.begin(), letters.end(), ' ') < 2 || !seen.insert(letters).second) continue;
    splits.of(synset.gloss).push_back(synset.file + "\t" + synset.gloss);
  }
  return splits;
}

namespace {

// The words of a gloss, with brackets and stops as words of their own.
std::vector<std::string> words_of(const std::string& gloss) {
  constexpr std::string_view kAlone = "()[],;:.!?\"`'";
  std::vector<std::string> words;
  std::istringstream parts(gloss);
  for (std::string part; parts >> part;) {
    size_t begin = 0, end = part.size();
    std::vector<std::string> after;
    while (begin < end && kAlone.find(part[begin]) != std::string_view::npos)
      words.emplace_back(1, part[begin++]);
    while (end > begin && kAlone.find(part[end - 1]) != std::string_view::npos)
      after.emplace_back(1, part[--end]);
    if (end > begin) words.push_back(part.substr(begin, end - begin));
    words.insert(words.end(), after.rbegin(), after.rend());
  }
  return words;
}

// Where the words of a term, which has underscores between them, stand in a text first; npos: nowhere.
size_t find_term(const std::vector<std::string>& text, const std::string& term, size_t& length) {
  std::string spaced = term;
  std::replace(spaced.begin(), spaced.end(), '_', ' ');
  const std::vector<std::string> words = words_of(spaced);
  length = words.size();
  const auto at = std::search(text.begin(), text.end(), words.begin(), words.end());
  return at == text.end() ? std::string::npos : static_cast<size_t>(at - text.begin());
}

}  // namespace

// Sentences "word<TAB>tag" of glosses of nouns and verbs in which a word for a synset right above stands: the
// first of them, the longest where two begin there, is marked as B- and I- with the file of that synset
// ("B-noun.animal"), all else is O. Glosses as of supersense, in the same splits.
Splits genus(const std::string& nouns, const std::string& verbs) {
  Splits splits;
  std::set<std::string> seen;
  const Synsets synsets = read_wordnet(nouns, verbs);
  for (const auto& [key, synset] : synsets) {
    const std::string letters = letters_and_digits(synset.gloss);
    if (std::count(letters.begin(), letters.end(), ' ') < 2 || !seen.insert(letters).second) continue;
    const std::vector<std::string> words = words_of(synset.gloss);
    size_t begin = std::string::npos, count = 0;
    std::string type;
    for (const std::string& parent : synset.hypernyms) {
      const auto above = synsets.find(parent);
      if (above == synsets.end()) continue;
      for (const std::string& term : above->second.words) {
        size_t length = 0;
        const size_t at = find_term(words, term, length);
        if (at == std::string::npos || at > begin || (at == begin && length <= count)) continue;
        begin = at, count = length, type = above->second.file;
      }
    }
    if (begin == std::string::npos) continue;
    std::string sentence;
    for (size_t i = 0; i < words.size(); ++i) {
      const char* tag = i == begin ? "B-" : i > begin && i < begin + count ? "I-" : "O";
      sentence += fmt::format("{}\t{}{}\n", words[i], tag, tag[0] == 'O' ? "" : type);
    }
    splits.of(synset.gloss).push_back(sentence);
  }
  return splits;
}

namespace {

// The nouns' hypernyms as a graph, and the nouns that pairs are made of: those with glosses of 4 words and
// more.
struct NounGraph {
  explicit NounGraph(const Synsets& synsets) {
    for (const auto& [key, synset] : synsets) {
      if (key[0] != 'n') continue;
      const Above& ancestors = above(key, synsets, known);
      for (const auto& [ancestor, distance] : ancestors) depth[key] = std::max(depth[key], distance + 1);
      const std::string words = collapse_spaces(synset.gloss);
      if (std::count(words.begin(), words.end(), ' ') < 3) continue;
      std::vector<std::string>& split = names.of(synset.gloss);
      split.push_back(key);
      split_of[key] = &split;
      for (const auto& [ancestor, distance] : ancestors) below[ancestor].push_back(key);
    }
  }

  // Wu and Palmer's: 2 d / (distance + 2 d), d the depth of the deepest ancestor of both; 0 without one.
  double similarity(const std::string& a, const std::string& b) const {
    const Above& of_b = known.at(b);
    int64_t best = 0, apart = 0;
    for (const auto& [ancestor, distance] : known.at(a)) {
      const auto other = of_b.find(ancestor);
      if (other == of_b.end()) continue;
      const int64_t deep = depth.at(ancestor), sum = distance + other->second;
      if (deep > best || (deep == best && sum < apart)) best = deep, apart = sum;
    }
    return best == 0 ? 0.0 : 2.0 * static_cast<double>(best) / static_cast<double>(apart + 2 * best);
  }

  Splits names;
  std::map<std::string, Above> known;  // by key, as the maps below
  std::map<std::string, int64_t> depth;
  std::map<std::string, std::vector<std::string>> below;  // nouns under a synset
  std::map<std::string, const std::vector<std::string>*> split_of;
};

// The pairs of one split, `wanted` in each fifth of the range where there are as many, in random order.
std::vector<std::string> gloss_pairs(const NounGraph& graph, const Synsets& synsets,
                                     const std::vector<std::string>& keys, uint64_t seed, int64_t wanted,
                                     int64_t most_draws) {
  constexpr int kBins = 5;
  if (keys.empty()) return {};
  const uint64_t site = site_hash("gloss-similarity");
  const NoiseKey key = noise_key(seed, 0, site, 0, Purpose::shuffle);
  std::array<int64_t, kBins> have{};
  std::set<std::pair<std::string, std::string>> drawn;
  std::vector<std::string> lines;
  for (int64_t draw = 0; draw < most_draws && std::ssize(lines) < kBins * wanted; ++draw) {
    const auto pick = [&](uint64_t position, const auto& from) -> const auto& {
      return from[bounded(key, draw, position, from.size())];
    };
    const std::string& a = pick(0, keys);
    std::string b;
    if (uniform(key, draw, 1) < 0.3) {
      b = pick(2, keys);
    } else {
      std::vector<std::string> ancestors;
      for (const auto& [ancestor, distance] : graph.known.at(a)) ancestors.push_back(ancestor);
      b = pick(3, graph.below.at(pick(2, ancestors)));
    }
    if (a == b || graph.split_of.at(b) != &keys || drawn.contains({a, b})) continue;
    const double value = graph.similarity(a, b);
    const int bin = std::min(kBins - 1, static_cast<int>(value * kBins));
    if (have[bin] == wanted) continue;
    ++have[bin];
    drawn.insert({a, b});
    lines.push_back(fmt::format("{:.2f}\t{}\t{}", 5 * value, synsets.at(a).gloss, synsets.at(b).gloss));
  }
  std::vector<std::string> shuffled;
  for (int64_t i : permutation(noise_key(seed, 1, site, 0, Purpose::shuffle), std::ssize(lines))) {
    shuffled.push_back(lines[i]);
  }
  return shuffled;
}

}  // namespace

// "score<TAB>gloss<TAB>gloss": five times the Wu-Palmer similarity (Wu, Palmer, ACL 1994) of two nouns with
// glosses of 4 words and more, as many pairs in each fifth of the range. Noun a is chosen at random; b too in
// three of ten cases, otherwise among the nouns below an ancestor of a. The splits share no gloss. The
// similarity is of the graph, not of people's judgement: this is no STS-B.
Splits gloss_similarity(const std::string& nouns, const std::string& verbs, int64_t most_draws) {
  const Synsets synsets = read_wordnet(nouns, verbs);
  const NounGraph graph(synsets);
  return {.train = gloss_pairs(graph, synsets, graph.names.train, 0, 4000, most_draws),
          .valid = gloss_pairs(graph, synsets, graph.names.valid, 1, 300, most_draws),
          .test = gloss_pairs(graph, synsets, graph.names.test, 2, 300, most_draws)};
}

}  // namespace tandem::data
