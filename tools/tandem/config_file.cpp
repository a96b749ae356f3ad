#include "tools/tandem/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "autograd/error.h"
#include "nn/io/text.h"
#include "tools/tandem/options.h"

namespace tandem::command {
namespace {

class Parser {
 public:
  Parser(const std::string& file, std::string text) : file_(file), text_(std::move(text)) {}

  std::vector<ConfigEntry> parse() {
    std::vector<ConfigEntry> entries;
    std::string section;
    for (skip_blank(true); at_ < text_.size(); skip_blank(true)) {
      if (text_[at_] == '[') {
        ++at_;
        section = word("a section's name");
        expect(']', "']' after the section's name");
      } else {
        ConfigEntry entry{section, word("an option's name"), {}, false, line_};
        skip_blank(false);
        expect('=', fmt::format("'=' after '{}'", entry.name));
        read_values(entry);
        for (const ConfigEntry& other : entries) {
          check<ConfigError>(other.name != entry.name || other.section != section,
                             "{}:{}: {}: it is set in line {} already", file_, entry.line, entry.name,
                             other.line);
        }
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

  void read_values(ConfigEntry& entry) {
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

bool is_flag(const CLI::Option& option) { return option.get_expected_min() == 0; }

// Whether `section` names a command below `app`: "train.vit".
bool is_command(const CLI::App& app, const std::string& section) {
  const std::string first = section.substr(0, section.find('.'));
  for (const CLI::App* sub : app.get_subcommands([&](const auto* s) { return s->get_name() == first; })) {
    if (first == section || is_command(*sub, section.substr(first.size() + 1))) return true;
  }
  return false;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
  }
  return out + "\"";
}

}  // namespace

std::vector<ConfigEntry> parse_config(const std::string& file, std::istream& text) {
  return Parser(file, std::string(std::istreambuf_iterator<char>(text), {})).parse();
}

std::string to_config(const CLI::App& command, const std::vector<std::string>& left_out) {
  std::string out;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || std::find(left_out.begin(), left_out.end(), name) != left_out.end()) continue;
    std::vector<std::string> values =
        option->count() > 0 ? option->reduced_results() : std::vector{option->get_default_str()};
    const bool many = option->get_expected_max() > 1;
    if (many && option->count() == 0) {
      if (values[0].empty() || values[0] == "[]") continue;
      values = CLI::detail::split(values[0].substr(1, values[0].size() - 2), ',');
    }
    if (is_flag(*option)) values = {option->count() > 0 && option->as<bool>() ? "true" : "false"};
    if (option->get_type_name() == "TEXT")
      std::transform(values.begin(), values.end(), values.begin(), quoted);
    const std::string text = data::join(values, ", ");
    out += fmt::format("{} = {}\n", name, many ? "[" + text + "]" : text);
  }
  return out;
}

std::vector<CLI::ConfigItem> CommandConfig::from_config(std::istream& text) const {
  const auto file = app_.get_option("--config")->as<std::string>();
  const CLI::App& command = active_command(app_);
  const std::vector<std::string> path = CLI::detail::split(command_path(command), ' ');
  const std::string section = data::join(path, ".");
  std::vector<CLI::ConfigItem> items;
  for (const ConfigEntry& entry : parse_config(file, text)) {
    const std::string where = fmt::format("{}:{}: ", file, entry.line);
    if (!entry.section.empty() && entry.section != section) {
      check<ConfigError>(is_command(app_, entry.section),
                         "{}unknown section [{}], expected a command such as [{}]", where, entry.section,
                         section);
      continue;
    }
    const CLI::Option* option = command.get_option_no_throw("--" + entry.name);
    if (option == nullptr) option = command.get_option_no_throw(entry.name);
    check<ConfigError>(option != nullptr && entry.name != "help",
                       "{}unknown option '{}' of `tandem {}`, whose --help lists them", where, entry.name,
                       data::join(path, " "));
    const bool many = option->get_expected_max() > 1;
    check<ConfigError>(many || !entry.list, "{}{}: expected one value, got a list", where, entry.name);
    check<ConfigError>(!is_flag(*option) || entry.values[0] == "true" || entry.values[0] == "false",
                       "{}{}: expected true or false, got '{}'", where, entry.name,
                       data::join(entry.values, ", "));
    if (option->count() > 0 || entry.values.empty()) continue;  // the command line comes first
    origins_["--" + entry.name] = where;
    items.push_back({path, entry.name, entry.values});
  }
  return items;
}

std::string CommandConfig::origin(const std::string& option) const {
  const auto found = origins_.find(option);
  return found == origins_.end() ? "" : found->second;
}

}  // namespace tandem::command
