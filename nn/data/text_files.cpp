#include "nn/data/text_files.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "autograd/error.h"
#include "nn/io/files.h"
#include "nn/io/text.h"

namespace tandem::data {
namespace {

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> parts(1);
  for (char c : line) {
    if (c == '\t') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Calls visit(line number from 1, fields) for each line that is not blank; `form` says what is expected.
template <class Visit>
void read_table(const std::string& file, size_t fewest, size_t most, const char* form, Visit visit) {
  const std::vector<std::string> lines = read_lines(file);
  check<IoError>(!lines.empty(), "{}: no lines, expected {}", file, form);
  size_t columns = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_blank(lines[i])) continue;
    const std::vector<std::string> parts = fields(lines[i]);
    check<IoError>(parts.size() >= fewest && parts.size() <= most, "{}:{}: expected {}, got {} fields", file,
                   i + 1, form, parts.size());
    if (columns == 0) columns = parts.size();
    check<IoError>(parts.size() == columns, "{}:{}: expected {} fields as in the lines before, got {}", file,
                   i + 1, columns, parts.size());
    visit(i + 1, parts);
  }
}

}  // namespace

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\f\v") == std::string_view::npos; }

size_t invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xC2 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF5 ? 4
                                        : 0;
    if (length == 0 || lead == 0 || i + length > text.size()) return i;
    uint32_t code = length == 1 ? lead : lead & (0x7F >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return i;
      code = code << 6 | (next & 0x3F);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::vector<std::string> read_lines(const std::string& file) {
  return lines_of(read_file("text", file, kMaxTextBytes), file);
}

std::vector<std::string> lines_of(std::string_view bytes, const std::string& name) {
  std::vector<std::string> lines;
  size_t begin = bytes.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  while (begin < bytes.size()) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    std::string line(bytes.substr(begin, end - begin));
    if (line.ends_with('\r')) line.pop_back();
    const size_t bad = invalid_utf8(line);
    check<IoError>(bad == std::string::npos, "{}:{}: byte {} of the line is not UTF-8", name,
                   lines.size() + 1, bad + 1);
    lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

TextPairs read_pairs(const std::string& file) {
  TextPairs pairs;
  read_table(file, 2, 2, "source<TAB>target", [&](size_t, const std::vector<std::string>& parts) {
    if (is_blank(parts[0]) || is_blank(parts[1])) {
      ++pairs.skipped;
      return;
    }
    pairs.source.push_back(parts[0]);
    pairs.target.push_back(parts[1]);
  });
  check<IoError>(!pairs.source.empty(), "{}: no pair with text on both sides", file);
  return pairs;
}

TextPairs read_pairs(const std::string& source_file, const std::string& target_file) {
  const std::vector<std::string> source = read_lines(source_file), target = read_lines(target_file);
  check<IoError>(source.size() == target.size(), "{} has {} lines, {} has {}: expected as many", source_file,
                 source.size(), target_file, target.size());
  TextPairs pairs;
  for (size_t i = 0; i < source.size(); ++i) {
    if (is_blank(source[i]) || is_blank(target[i])) {
      ++pairs.skipped;
      continue;
    }
    pairs.source.push_back(source[i]);
    pairs.target.push_back(target[i]);
  }
  check<IoError>(!pairs.source.empty(), "{}: no pair with text on both sides", source_file);
  return pairs;
}

LabelledTexts read_labelled(const std::string& file, const std::vector<std::string>& classes) {
  LabelledTexts texts;
  std::vector<std::string> names;
  const std::set<std::string> known(classes.begin(), classes.end());
  read_table(file, 2, 3, "label<TAB>text[<TAB>second text]",
             [&](size_t line, const std::vector<std::string>& parts) {
               check<IoError>(!is_blank(parts[0]), "{}:{}: expected a label, got none", file, line);
               check<IoError>(known.empty() || known.contains(parts[0]),
                              "{}:{}: label '{}' is none of the {} that training has{}", file, line, parts[0],
                              known.size(), line == 1 ? "; is it a header? This format has none" : "");
               if (is_blank(parts[1]) || (parts.size() == 3 && is_blank(parts[2]))) {
                 ++texts.skipped;
                 return;
               }
               names.push_back(parts[0]);
               texts.text.push_back(parts[1]);
               if (parts.size() == 3) texts.second.push_back(parts[2]);
             });
  check<IoError>(!names.empty(), "{}: no line with a text", file);
  texts.classes = classes;
  if (classes.empty()) {
    const std::set<std::string> found(names.begin(), names.end());
    check<IoError>(found.size() > 1, "{}: expected at least 2 classes, got '{}' alone", file, *found.begin());
    texts.classes.assign(found.begin(), found.end());
  }
  std::map<std::string, int64_t> position;
  for (size_t i = 0; i < texts.classes.size(); ++i) position[texts.classes[i]] = static_cast<int64_t>(i);
  for (const std::string& name : names) texts.labels.push_back(position.at(name));
  return texts;
}

ScoredTexts read_scored(const std::string& file) {
  ScoredTexts texts;
  read_table(file, 3, 3, "score<TAB>text<TAB>text", [&](size_t line, const std::vector<std::string>& parts) {
    double score = 0;
    const std::string& digits = parts[0];
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), score);
    check<IoError>(failure == std::errc() && end == digits.data() + digits.size() && std::isfinite(score),
                   "{}:{}: expected a score, got '{}'{}", file, line, digits,
                   line == 1 ? "; is it a header? This format has none" : "");
    if (is_blank(parts[1]) || is_blank(parts[2])) {
      ++texts.skipped;
      return;
    }
    texts.scores.push_back(score);
    texts.text.push_back(parts[1]);
    texts.second.push_back(parts[2]);
  });
  check<IoError>(!texts.scores.empty(), "{}: no line with two texts", file);
  return texts;
}

}  // namespace tandem::data
