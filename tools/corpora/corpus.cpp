#include "tools/corpora/corpus.h"

#include <algorithm>
#include <filesystem>

#include "autograd/error.h"
#include "nn/data/text_files.h"
#include "nn/io/files.h"
#include "nn/io/sha256.h"
#include "nn/io/text.h"
#include "tools/corpora/python_packages.h"
#include "tools/corpora/unicode.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{1} << 30;
constexpr std::array kSplitNames{"train", "valid", "test"};

std::string read(const std::string& file) { return read_file("corpus", file, kMostBytes); }

const DebianPackage kWordnet{"wordnet-base", "61060d960f9a", {}},
    kAusten{"r-cran-janeaustenr", "df6bddf21190", {}},
    kHelpEnglish{"libreoffice-help-en-us", "8faa84028573", {}},
    kHelpGerman{"libreoffice-help-de", "00490b63c509", {}};

// A function of unpacked packages: `use` gets the folders they are in.
template <class Use>
Splits from_packages(const std::vector<DebianPackage>& packages, const std::string& cache,
                     const Notice& notice, Use use) {
  const TemporaryFolder work(cache);
  std::vector<std::string> folders;
  for (const DebianPackage& package : packages) folders.push_back(work.path() + "/" + package.name);
  unpack_debian_packages(packages, folders, cache, notice);
  return use(folders);
}

Splits from_wordnet(Splits (*make)(const std::string&, const std::string&), const std::string& cache,
                    const Notice& notice) {
  return from_packages({kWordnet}, cache, notice, [&](const std::vector<std::string>& folders) {
    const std::string folder = folders[0] + "/usr/share/wordnet/data.";
    return make(read(folder + "noun"), read(folder + "verb"));
  });
}

// The pages below a folder, in the order of their paths.
Pages read_pages(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".html") files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  Pages pages;
  for (const std::string& file : files) pages.emplace_back(file, read(file));
  return pages;
}

// The six novels by lines, the first 90 % of them, the next 5 and the last 5.
Splits austen(const std::string& cache, const Notice& notice) {
  return from_packages({kAusten}, cache, notice, [&](const std::vector<std::string>& folders) {
    const std::vector<std::string> lines =
        r_lines(read(folders[0] + "/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"));
    const auto end = std::ssize(lines), a = end * 90 / 100, b = end * 95 / 100;
    const auto at = lines.begin();
    return Splits{{at, at + a}, {at + a, at + b}, {at + b, at + end}};
  });
}

Corpus orange(std::string name, std::string description, std::string file,
              std::array<std::string, 3> hashes) {
  return {std::move(name), std::move(description), ".tsv", std::move(hashes),
          [file = std::move(file)](const std::string& cache, const Notice& notice) {
            return published_classes(read_orange(file + "-train.tab", cache, notice),
                                     read_orange(file + "-test.tab", cache, notice));
          }};
}

}  // namespace

std::vector<std::string>& Splits::of(const std::string& key) {
  int part = 0;  // the hash as a number, modulo 20
  for (const char digit : sha256(key))
    part = (part * 16 + (digit <= '9' ? digit - '0' : digit - 'a' + 10)) % 20;
  return part == 0 ? test : part == 1 ? valid : train;
}

const std::vector<Corpus>& corpora() {
  static const std::vector<Corpus> all{
      {"synopses",
       "translation: package synopses, English to Italian",
       ".tsv",
       {"f1b46df43e98", "72ce053fdcbf", "2ac1977617a6"},
       [](const std::string& cache, const Notice& notice) {
         const DebianIndexes index = fetch_debian_indexes(cache, notice);
         return synopses(read(index.packages), read(index.translation_en), read(index.translation_it));
       }},
      {"libreoffice-help",
       "translation: sentences of a handbook, English to German",
       ".tsv",
       {"2c1ad73634db", "6432cf661d9d", "963c0e280dff"},
       [](const std::string& cache, const Notice& notice) {
         return from_packages({kHelpEnglish, kHelpGerman}, cache, notice,
                              [](const std::vector<std::string>& folders) {
                                return help_pairs(read_pages(folders[0]), read_pages(folders[1]));
                              });
       }},
      {"summaries",
       "summarization: a package's first paragraph, and its synopsis",
       ".tsv",
       {"bee6c2525c30", "4934952bd55e", "e40ac8e8e111"},
       [](const std::string& cache, const Notice& notice) {
         const DebianIndexes index = fetch_debian_indexes(cache, notice);
         return summaries(read(index.packages), read(index.translation_en));
       }},
      {"austen",
       "language modelling: the six novels of Jane Austen",
       ".txt",
       {"33cf616f5158", "aba5bdf248ed", "99129b1ca87d"},
       austen},
      {"supersense",
       "classification: WordNet's glosses, 41 kinds of nouns and verbs",
       ".tsv",
       {"b4fbf0b7d5f0", "74f227860716", "e3e16bf4f470"},
       [](const std::string& cache, const Notice& notice) {
         return from_wordnet(supersense, cache, notice);
       }},
      {"genus",
       "tags of words: the broader term in each of WordNet's glosses, and its kind",
       ".conll",
       {"8d7c3a10ef99", "c42a80960da5", "1ec2e4c22e5d"},
       [](const std::string& cache, const Notice& notice) { return from_wordnet(genus, cache, notice); }},
      {"gloss-similarity",
       "regression: pairs of WordNet's glosses, Wu-Palmer similarity",
       ".tsv",
       {"3b94331b96bf", "8d857110756f", "4e1e2f5d6e9f"},
       [](const std::string& cache, const Notice& notice) {
         const auto make = [](const std::string& nouns, const std::string& verbs) {
           return gloss_similarity(nouns, verbs);
         };
         return from_wordnet(make, cache, notice);
       }},
      orange("r8", "classification: Reuters news, 8 topics, the published split", "reuters-r8",
             {"4cb507af3193", "c48a047da5f3", "2cda485b8552"}),
      orange("r52", "classification: Reuters news, 52 topics, likewise", "reuters-r52",
             {"33335e4c1993", "d7a45e683573", "ec6ee4ff39c0"}),
      orange("20news", "classification: 20 Newsgroups, likewise", "20newsgroups",
             {"164437b85fd5", "b1a90df412e5", "142b7b2df772"}),
  };
  return all;
}

const Corpus* find_corpus(const std::string& name) {
  for (const Corpus& corpus : corpora())
    if (corpus.name == name) return &corpus;
  return nullptr;
}

bool has_corpus(const Corpus& corpus, const std::string& dir) {
  return std::all_of(kSplitNames.begin(), kSplitNames.end(), [&](const char* split) {
    return fs::is_regular_file(dir + "/" + split + corpus.ending);
  });
}

void make_corpus(const Corpus& corpus, const std::string& dir, const std::string& cache,
                 const Notice& notice) {
  if (has_corpus(corpus, dir)) return;
  const Splits splits = corpus.make(cache, notice);
  fs::create_directories(dir);
  const std::array parts{&splits.train, &splits.valid, &splits.test};
  for (size_t i = 0; i < parts.size(); ++i) {
    check<IoError>(!parts[i]->empty(), "{}: its sources give no lines for {}", corpus.name, kSplitNames[i]);
    const std::string text = join(*parts[i], "\n") + "\n", hash = sha256(text);
    if (!hash.starts_with(corpus.hashes[i])) {
      notice(fmt::format(
          "warning: {}/{}{}: sha256 is {}, expected {}...: results may differ from published ones", dir,
          kSplitNames[i], corpus.ending, hash.substr(0, 12), corpus.hashes[i]));
    }
    write_file(fmt::format("{}/{}{}", dir, kSplitNames[i], corpus.ending), text);
  }
}

}  // namespace tandem::data
