// Synopses (translation, English to Italian) and summaries (first paragraph to synopsis) from the package
// descriptions in Debian's index files.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "autograd/error.h"
#include "tools/corpora/corpus.h"
#include "tools/corpora/unicode.h"

namespace tandem::data {
namespace {

struct Description {
  std::string md5, package, text;  // text: the synopsis, then the long description's lines
};

// The descriptions of a Translation file, each MD5's first, in the order of the file.
std::vector<Description> read_descriptions(const std::string& name, const std::string& content) {
  std::vector<Description> all;
  std::unordered_set<std::string> seen;
  Description now;
  bool in_text = false;
  int64_t number = 0;
  const auto finish = [&] {
    if (now.md5.empty() && now.package.empty()) return;
    check<IoError>(!now.md5.empty() && !now.package.empty() && !now.text.empty(),
                   "{}:{}: expected Package, Description-md5 and a description in each entry", name, number);
    if (seen.insert(now.md5).second) all.push_back(now);
    now = {};
    in_text = false;
  };
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) {
      finish();
    } else if (line[0] == ' ') {
      if (in_text) now.text.append(1, '\n').append(line, 1);
    } else {
      const size_t colon = line.find(':');
      check<IoError>(colon != std::string::npos, "{}:{}: expected 'Name: value', got '{}'", name, number,
                     line.substr(0, 40));
      const std::string field = line.substr(0, colon), value = collapse_spaces(line.substr(colon + 1));
      in_text = field.starts_with("Description-") && field != "Description-md5";
      if (field == "Package") now.package = value;
      if (field == "Description-md5") now.md5 = value;
      // The value as it stands, without blanks at its ends.
      if (in_text) {
        const size_t begin = line.find_first_not_of(" \t", colon + 1), end = line.find_last_not_of(" \t");
        now.text = begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
      }
    }
  }
  ++number;
  finish();
  check<IoError>(!all.empty(), "{}: no descriptions", name);
  return all;
}

// The source package of every binary one.
std::unordered_map<std::string, std::string> read_sources(const std::string& content) {
  std::unordered_map<std::string, std::string> sources;
  std::string package;
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Package: ")) {
      package = line.substr(9);
      sources[package] = package;
    } else if (line.starts_with("Source: ")) {
      sources[package] = line.substr(8, line.find(' ', 8) - 8);
    }
  }
  check<IoError>(!sources.empty(), "Packages: no package");
  return sources;
}

std::string source_of(const std::unordered_map<std::string, std::string>& sources,
                      const std::string& package) {
  const auto found = sources.find(package);
  return found == sources.end() ? package : found->second;
}

// The first line, and the first paragraph of the rest (paragraphs end at a lone dot).
std::pair<std::string, std::string> synopsis_and_paragraph(const std::string& text) {
  std::istringstream lines(text);
  std::string synopsis, line, paragraph;
  std::getline(lines, synopsis);
  while (std::getline(lines, line)) {
    if (collapse_spaces(line) == ".") {
      if (!paragraph.empty()) break;
    } else {
      if (!paragraph.empty()) paragraph += ' ';
      paragraph += line;
    }
  }
  return {synopsis, collapse_spaces(paragraph)};
}

bool between(int64_t low, int64_t x, int64_t high) { return low <= x && x <= high; }

}  // namespace

// First lines of the descriptions that both languages have (joined on the MD5 of the English one), in the
// order of the package's name, by source package: 2-30 and 1-40 words, not identical, the first of each
// source text (letters only). Pairs of valid and test whose target is in train are left out.
Splits synopses(const std::string& packages, const std::string& english, const std::string& italian) {
  const auto sources = read_sources(packages);
  std::unordered_map<std::string, Description> in_english;
  for (Description& d : read_descriptions("Translation-en", english)) in_english[d.md5] = std::move(d);
  std::vector<Description> translated = read_descriptions("Translation-it", italian);
  std::stable_sort(translated.begin(), translated.end(),
                   [](const Description& a, const Description& b) { return a.package < b.package; });
  Splits splits;
  std::set<std::string> seen, in_train;
  for (const Description& d : translated) {
    const auto found = in_english.find(d.md5);
    if (found == in_english.end()) continue;
    const std::string source = synopsis_and_paragraph(found->second.text).first,
                      target = synopsis_and_paragraph(d.text).first;
    if (source == target || !between(2, count_words(source), 30) || !between(1, count_words(target), 40))
      continue;
    const std::string letters = letters_only(source);
    if (letters.empty() || !seen.insert(letters).second) continue;
    std::vector<std::string>& split = splits.of(source_of(sources, found->second.package));
    split.push_back(source + "\t" + target);
    if (&split == &splits.train) in_train.insert(letters_only(target));
  }
  for (auto* split : {&splits.valid, &splits.test}) {
    std::erase_if(*split, [&](const std::string& line) {
      return in_train.contains(letters_only(line.substr(line.find('\t') + 1)));
    });
  }
  return splits;
}

// The first paragraph and the synopsis of one description for each source package, that of the shortest name:
// 15-80 and 3-16 words, each paragraph and each synopsis (letters only) once.
Splits summaries(const std::string& packages, const std::string& english) {
  const auto sources = read_sources(packages);
  std::vector<Description> all = read_descriptions("Translation-en", english);
  std::stable_sort(all.begin(), all.end(), [](const Description& a, const Description& b) {
    return std::pair(a.package.size(), a.package) < std::pair(b.package.size(), b.package);
  });
  Splits splits;
  std::set<std::string> done, paragraphs, synopses;
  for (const Description& d : all) {
    const auto [synopsis, paragraph] = synopsis_and_paragraph(d.text);
    if (paragraph.empty()) continue;
    const std::string source = source_of(sources, d.package), letters = letters_only(paragraph),
                      short_letters = letters_only(synopsis);
    if (done.contains(source) || paragraphs.contains(letters) || synopses.contains(short_letters)) continue;
    if (!between(15, count_words(paragraph), 80) || !between(3, count_words(synopsis), 16)) continue;
    done.insert(source), paragraphs.insert(letters), synopses.insert(short_letters);
    splits.of(source).push_back(paragraph + "\t" + synopsis);
  }
  return splits;
}

}  // namespace tandem::data
