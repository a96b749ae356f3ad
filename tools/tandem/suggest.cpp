#include "tools/tandem/suggest.h"

#include <algorithm>

namespace tandem::command {
namespace {

// Letters inserted, left out, replaced, or swapped with the next (optimal string alignment).
size_t edits(const std::string& a, const std::string& b) {
  std::vector<size_t> before, above, row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::move(above), above = row;
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(const std::string& word, const std::vector<std::string>& names) {
  constexpr size_t kLongest = 64;  // of a name: comparing takes the product of the lengths
  if (word.size() > kLongest) return "";
  std::string nearest;
  size_t least = word.size() / 3 + 1;
  for (const std::string& name : names) {
    if (const size_t distance = edits(word, name); distance < least) least = distance, nearest = name;
  }
  return nearest;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& names) {
  const std::string name = nearest_name(word, names);
  return name.empty() ? "" : "; did you mean " + name + "?";
}

}  // namespace tandem::command
