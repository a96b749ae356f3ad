// The bundled text corpora: made on the user's machine, by rules stated here, from Debian packages and index
// files. `tandem data NAME` makes them; their texts are never shipped.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "tools/corpora/debian.h"

namespace tandem::data {

// Lines of the three splits. A line belongs to the split that the SHA-256 of its key, modulo 20, says: 0
// test, 1 valid, the rest train; so the splits share no key.
struct Splits {
  std::vector<std::string> train, valid, test;

  std::vector<std::string>& of(const std::string& key);
};

struct Corpus {
  std::string name, description, ending;  // ".tsv"
  // SHA-256 of train, valid and test as first measured, its first digits; "" where there is none. Others are
  // a warning: package indexes change with Debian's point releases.
  std::array<std::string, 3> hashes;
  std::function<Splits(const std::string& cache, const Notice& notice)> make;
};

const std::vector<Corpus>& corpora();
const Corpus* find_corpus(const std::string& name);

// True if `dir` has the three files.
bool has_corpus(const Corpus& corpus, const std::string& dir);
// Makes them in `dir`, where they are not there yet. IoError when a source cannot be had or read.
void make_corpus(const Corpus& corpus, const std::string& dir, const std::string& cache = cache_folder(),
                 const Notice& notice = print_notice);

// One function for each; the rules are at their heads. Exposed for tests: the text of the source files in.
Splits synopses(const std::string& packages, const std::string& english, const std::string& italian);
Splits summaries(const std::string& packages, const std::string& english);
Splits supersense(const std::string& nouns, const std::string& verbs);
Splits genus(const std::string& nouns, const std::string& verbs);
Splits gloss_similarity(const std::string& nouns, const std::string& verbs, int64_t most_draws = 3'000'000);
// Pages: (path inside of the help, HTML).
using Pages = std::vector<std::pair<std::string, std::string>>;
Splits help_pairs(const Pages& english, const Pages& german);
Splits published_classes(const std::string& train, const std::string& test);
// The lines of every character vector in an R lazy-load database, in its order; rdb: the bytes of the file.
std::vector<std::string> r_lines(const std::string& rdb);

}  // namespace tandem::data
