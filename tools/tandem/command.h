// A command of `tandem` and its options. Each option is declared once, with the value that it sets: it is
// then read from the command line or from a file, shown by --help with its default, and written to a run's
// settings.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/tandem/checks.h"

namespace CLI {  // the parser, included by command.cpp and command_line.cpp alone: it takes long to compile
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace tandem::command {

// What is wrong with a value, in our words: "--passes: expected an integer, got 'x'".
std::string describe_value(const CLI::App& command, const CLI::ParseError& error);

class Option {
 public:
  Option() = default;
  explicit Option(CLI::Option* option) : option_(option) {}

  Option& required();
  Option& check(const Check& check);
  Option& at_most(int values);    // of a list
  void default_to(double value);  // sets the value, unless one was given

 private:
  CLI::Option* option_ = nullptr;
};

class Command {
 public:
  Command();  // of options that only a file sets
  explicit Command(std::shared_ptr<CLI::App> app) : app_(std::move(app)) {}

  Command add(const std::string& name, const std::string& description);  // a command below this one
  void examples(const std::vector<std::string>& lines);                  // that end its --help
  // What it does, after its values were set. An action that wants the command takes it as an argument: held
  // by its own action, it would never be freed.
  void run(std::function<void(Command)> action);
  void run(std::function<void()> action);

  // T: an integer, double, std::string, or a vector of int64_t, double (commas between) or std::string.
  template <class T>
  Option option(const std::string& name, T& value, const Check& check, const std::string& description);
  void flag(const std::string& name, bool& value, const std::string& description);
  template <class T>  // std::string or a vector of it
  Option argument(const std::string& name, T& value, const std::string& description);
  void group(std::string title) { group_ = std::move(title); }  // of the options that follow, in --help
  void device(std::string& value);                              // --device
  Option find(const std::string& name) const;                   // an option declared before

  void set(const std::string& name, const std::vector<std::string>& values);
  std::string name() const;                          // of the command: "vit"
  bool has(const std::string& name) const;           // whether there is such an option
  std::string value(const std::string& name) const;  // of an option of one value: the given or the default
  // What it names is written as an absolute path, if it is there: settings can then be read from anywhere.
  void make_absolute(const std::string& name);
  // Sets the options that are not set yet to those in the file, or those of the names in `instead` to what
  // stands there. ConfigError naming the file.
  void read(const std::string& file, const std::map<std::string, std::string>& instead = {});
  // ConfigError for an option that was given with another value than in the file, unless it is one of `free`.
  void check_same(const std::string& file, const std::vector<std::string>& free) const;
  // What read() takes: a line for each option, with the value as used, without those in `left_out`.
  std::string to_toml(const std::vector<std::string>& left_out) const;

 private:
  std::shared_ptr<CLI::App> app_;
  std::string group_;
};

}  // namespace tandem::command
