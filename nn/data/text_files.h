// Text data from files: plain lines, parallel lines, and TSV with labels or scores. UTF-8 is checked, a byte
// order mark and carriage returns at the ends of lines are removed. IoError naming file and line for what
// cannot be read; empty texts are skipped and counted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

// Position of the first byte that is not UTF-8 (surrogates, overlong forms and NUL are not); npos: there is
// none.
size_t invalid_utf8(std::string_view text);

// Nothing but blanks: spaces, tabs and their like in ASCII. Such a line is an empty one.
bool is_blank(std::string_view text);

// The lines of a file, also empty ones; and of bytes that came from elsewhere, called `name`.
std::vector<std::string> read_lines(const std::string& file);
std::vector<std::string> lines_of(std::string_view bytes, const std::string& name);
inline constexpr int64_t kMaxTextBytes = int64_t{1} << 33;  // that are read

// What read_pairs() reads.
struct TextPairs {
  std::vector<std::string> source, target;  // of equal length
  int64_t skipped = 0;                      // lines with nothing on one side
};
// "source<TAB>target" a line, or two files that are aligned by line.
TextPairs read_pairs(const std::string& file);
TextPairs read_pairs(const std::string& source_file, const std::string& target_file);

// What read_labelled() reads.
struct LabelledTexts {
  std::vector<std::string> text, second;  // second: of sentence pairs, otherwise empty
  std::vector<int64_t> labels;            // positions in classes
  std::vector<std::string> classes;       // sorted by name
  int64_t skipped = 0;                    // lines without a text
};
// "label<TAB>text" or "label<TAB>text<TAB>second" a line, the same on all. `classes` are the known ones:
// another label is an IoError. Without them, so is a file of one class.
LabelledTexts read_labelled(const std::string& file, const std::vector<std::string>& classes = {});

// What read_scored() reads.
struct ScoredTexts {
  std::vector<std::string> text, second;  // of each pair
  std::vector<double> scores;             // one for each
  int64_t skipped = 0;                    // lines without a text
};
// "score<TAB>text<TAB>second" a line.
ScoredTexts read_scored(const std::string& file);

}  // namespace tandem::data
