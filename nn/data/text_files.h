// Text data from files: plain lines, parallel lines, and TSV with labels or scores. UTF-8 is checked, a byte
// order mark and carriage returns at the ends of lines are taken off. Whatever cannot be read is an IoError
// naming file and line; what is left out (empty texts) is counted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

// Where `text` stops being UTF-8 (without surrogates, overlong forms or NUL); npos when it is all right.
size_t invalid_utf8(std::string_view text);

// The lines of a file, also empty ones.
std::vector<std::string> read_lines(const std::string& file);

struct TextPairs {
  std::vector<std::string> source, target;
  int64_t skipped = 0;  // lines with nothing on one side
};
// "source<TAB>target" a line, or two files that are aligned by line.
TextPairs read_pairs(const std::string& file);
TextPairs read_pairs(const std::string& source_file, const std::string& target_file);

struct LabelledTexts {
  std::vector<std::string> text, second;  // second: of sentence pairs, otherwise empty
  std::vector<int64_t> labels;            // positions in classes
  std::vector<std::string> classes;       // sorted by name
  int64_t skipped = 0;                    // lines without a text
};
// "label<TAB>text" or "label<TAB>text<TAB>second" a line, the same on all. With `classes` those are the known
// ones: another label is an IoError, as is a file with labels of one class without them.
LabelledTexts read_labelled(const std::string& file, const std::vector<std::string>& classes = {});

struct ScoredTexts {
  std::vector<std::string> text, second;
  std::vector<double> scores;
  int64_t skipped = 0;
};
// "score<TAB>text<TAB>second" a line.
ScoredTexts read_scored(const std::string& file);

}  // namespace tandem::data
