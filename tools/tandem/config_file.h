// Options in a file: `passes = 3`, a line each, in the part of TOML that options need.
#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <map>
#include <string>
#include <vector>

namespace tandem::command {

struct ConfigEntry {
  std::string section, name;
  std::vector<std::string> values;  // one, or those of a list
  bool list = false;
  int line = 0;
};

// Strings in '' or "" (with TOML's escapes \" \\ \n \t), numbers, booleans, lists of them (over several lines
// too), comments, and [sections]. ConfigError naming the file and the line for anything else.
std::vector<ConfigEntry> parse_config(const std::string& file, std::istream& text);

// The options of `command` as such a file: one line each, with the values as used, without those named in
// `left_out`.
std::string to_config(const CLI::App& command, const std::vector<std::string>& left_out);

// Reads --config for CLI11. Lines outside a section, and those of the section [train.vit], are options of the
// command being run; a section of another command is passed over; anything else is a ConfigError.
class CommandConfig : public CLI::ConfigTOML {
 public:
  explicit CommandConfig(CLI::App& app) : app_(app) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& text) const override;

  // "run.toml:3: " if the option's value was taken from the file, else "".
  std::string origin(const std::string& option) const;

 private:
  CLI::App& app_;
  mutable std::map<std::string, std::string> origins_;
};

}  // namespace tandem::command
