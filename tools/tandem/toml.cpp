#include "tools/tandem/toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "autograd/error.h"

namespace tandem::command {
namespace {

class Parser {
 public:
  Parser(const std::string& file, std::string text) : file_(file), text_(std::move(text)) {}

  std::vector<TomlEntry> parse() {
    std::vector<TomlEntry> entries;
    std::map<std::pair<std::string, std::string>, int> lines;  // of sections' options
    std::string section;
    for (skip_blank(true); at_ < text_.size(); skip_blank(true)) {
      if (text_[at_] == '[') {
        ++at_;
        section = word("a section's name");
        expect(']', "']' after the section's name");
      } else {
        TomlEntry entry{section, word("an option's name"), {}, false, line_};
        skip_blank(false);
        expect('=', fmt::format("'=' after '{}'", entry.name));
        read_values(entry);
        const auto [first, is_new] = lines.try_emplace({section, entry.name}, entry.line);
        check<ConfigError>(is_new, "{}:{}: {}: it is set in line {} already", file_, entry.line, entry.name,
                           first->second);
        entries.push_back(std::move(entry));
      }
      skip_blank(false);
      if (at_ < text_.size()) expect('\n', "the end of the line");
    }
    return entries;
  }

 private:
  char next() const { return at_ < text_.size() ? text_[at_] : '\n'; }

  [[noreturn]] void fail(const std::string& expected) const {
    std::string found(text_.substr(at_, std::min<size_t>(20, text_.find('\n', at_) - at_)));
    const bool printable =
        std::all_of(found.begin(), found.end(), [](unsigned char c) { return c >= ' ' && c < 127; });
    raise<ConfigError>("{}:{}: expected {}, got {}", file_, line_, expected,
                       !printable      ? "bytes that are no text"
                       : found.empty() ? "the end of the line"
                                       : "'" + found + "'");
  }

  void expect(char c, const std::string& what) {
    if (at_ >= text_.size() || text_[at_] != c) fail(what);
    ++at_;
    line_ += c == '\n';
  }

  // Blanks and comments, and the ends of lines too where the value goes on.
  void skip_blank(bool over_lines) {
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '#') at_ = std::min(text_.find('\n', at_), text_.size());
      if (at_ == text_.size() || (text_[at_] == '\n' && !over_lines)) return;
      if (text_[at_] == '\n') {
        ++line_;
      } else if (text_[at_] != ' ' && text_[at_] != '\t' && text_[at_] != '\r') {
        return;
      }
    }
  }

  std::string word(const char* what) {
    const size_t begin = at_;
    auto part = [](unsigned char c) {
      return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '+';
    };
    while (part(next())) ++at_;
    if (at_ == begin) fail(what);
    return text_.substr(begin, at_ - begin);
  }

  std::string value() {
    const char quote = next();
    if (quote != '"' && quote != '\'') return word("a number, true, false, or a string in quotes");
    std::string out;
    for (++at_; next() != quote; ++at_) {
      if (next() == '\n') fail("the string's closing quote");
      if (quote == '"' && next() == '\\') {
        ++at_;
        const size_t escape = std::string_view("\"\\nt").find(next());
        if (escape == std::string::npos) fail("one of \\\" \\\\ \\n \\t");
        out += "\"\\\n\t"[escape];
      } else {
        out += next();
      }
    }
    ++at_;
    return out;
  }

  void read_values(TomlEntry& entry) {
    skip_blank(false);
    entry.list = next() == '[';
    if (!entry.list) {
      entry.values = {value()};
      return;
    }
    ++at_;
    for (skip_blank(true); next() != ']'; skip_blank(true)) {
      entry.values.push_back(value());
      skip_blank(true);
      if (next() != ']') expect(',', "',' or ']' in a list");
    }
    ++at_;
  }

  const std::string& file_;
  std::string text_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<TomlEntry> parse_toml(const std::string& file, std::istream& text) {
  constexpr size_t kMost = 1 << 20;
  std::string bytes(kMost + 1, '\0');
  text.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(text.gcount()));
  check<ConfigError>(bytes.size() <= kMost, "{}: holds more than {} bytes, expected a file of options", file,
                     kMost);
  return Parser(file, std::move(bytes)).parse();
}

std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
  }
  return out + "\"";
}

}  // namespace tandem::command
