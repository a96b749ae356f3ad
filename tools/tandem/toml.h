// Options in a file: `passes = 3`, a line each, in the part of TOML that options need.
#pragma once

#include <istream>
#include <string>
#include <vector>

namespace tandem::command {

struct TomlEntry {
  std::string section, name;
  std::vector<std::string> values;  // one, or those of a list
  bool list = false;
  int line = 0;
};

// Strings in '' or "" (with TOML's escapes \" \\ \n \t), numbers, booleans, lists of them (over several lines
// too), comments, and [sections]. ConfigError naming the file and the line for anything else.
std::vector<TomlEntry> parse_toml(const std::string& file, std::istream& text);

std::string toml_string(const std::string& text);  // in quotes

}  // namespace tandem::command
