#include "tools/tandem/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <type_traits>

#include "autograd/error.h"
#include "nn/io/text.h"
#include "tools/tandem/toml.h"

namespace tandem::command {

using Strings = std::vector<std::string>;

namespace {

CLI::Validator validator(const Check& check) {
  return CLI::Validator([check](const std::string& text) { return check(text); }, "");
}

bool is_flag(const CLI::Option& option) { return option.get_expected_min() == 0; }

// The values as a file has them: those given, or the default.
std::vector<std::string> values_of(const CLI::Option& option) {
  if (is_flag(option)) return {option.count() > 0 && option.as<bool>() ? "true" : "false"};
  if (option.count() > 0) return option.reduced_results();
  const std::string standard = option.get_default_str();
  if (option.get_expected_max() == 1) return {standard};
  if (standard.empty() || standard == "[]") return {};
  return CLI::detail::split(standard.substr(1, standard.size() - 2), ',');
}

// 1e-3 is 0.001.
bool same_values(const Strings& a, const Strings& b) {
  const auto number = [](const std::string& text) {
    double value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    return failure == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const std::string& x, const std::string& y) {
    return x == y || (number(x) && number(x) == number(y));
  });
}

}  // namespace

std::string describe_value(const CLI::App& command, const CLI::ParseError& error) {
  const std::string message = error.what();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    std::string name = message.substr(0, message.find(' '));
    const CLI::Option* option = command.get_option_no_throw(name);
    const std::string about = option != nullptr ? " (" + option->get_description() + ")" : "";
    if (!name.starts_with("-"))
      for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return name + " is missing" + about;
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr)
    return message.substr(0, message.find(':')) + ": expected a value";
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {  // only of flags: others have a check
    const size_t at = message.find("--"), end = message.find_first_of(" :", at);
    return (at == std::string::npos ? message : message.substr(at, end - at)) +
           ": a flag, expected no value, or true or false";
  }
  return message;  // of a check: "--passes: expected an integer, got 'x'"
}

Option& Option::required() {
  option_->required();
  return *this;
}
Option& Option::check(const Check& check) {
  option_->check(validator(check));
  return *this;
}
Option& Option::at_most(int values) {
  option_->expected(1, values);
  return *this;
}
void Option::default_to(double value) {
  if (option_->count() == 0) option_->default_val(fmt::format("{}", value));
}

Command::Command() : app_(std::make_shared<CLI::App>()) {}

Command Command::add(const std::string& name, const std::string& description) {
  CLI::App* app = app_->add_subcommand(name, description);
  app_->require_subcommand(1);
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  return Command(app_->get_subcommand_ptr(app));
}

void Command::examples(const Strings& lines) {
  app_->footer(
      fmt::format("\n{}:\n  {}", lines.size() > 1 ? "Examples" : "Example", data::join(lines, "\n  ")));
}

void Command::run(std::function<void(Command)> action) {
  app_->callback([app = app_.get(), action = std::move(action)] {
    action(Command(app->get_parent()->get_subcommand_ptr(app)));
  });
}
void Command::run(std::function<void()> action) { app_->callback(std::move(action)); }

template <class T>
Option Command::option(const std::string& name, T& value, const Check& check,
                       const std::string& description) {
  CLI::Option* option = app_->add_option(name, value, description)->check(validator(check));
  if (!group_.empty()) option->group(group_);
  if (std::is_same_v<T, std::vector<int64_t>> || std::is_same_v<T, std::vector<double>>)
    option->delimiter(',');
  option->capture_default_str();
  return Option(option);
}
template Option Command::option(const std::string&, int&, const Check&, const std::string&);
template Option Command::option(const std::string&, int64_t&, const Check&, const std::string&);
template Option Command::option(const std::string&, uint64_t&, const Check&, const std::string&);
template Option Command::option(const std::string&, double&, const Check&, const std::string&);
template Option Command::option(const std::string&, std::string&, const Check&, const std::string&);
template Option Command::option(const std::string&, Strings&, const Check&, const std::string&);
template Option Command::option(const std::string&, std::vector<int64_t>&, const Check&, const std::string&);
template Option Command::option(const std::string&, std::vector<double>&, const Check&, const std::string&);

void Command::flag(const std::string& name, bool& value, const std::string& description) {
  CLI::Option* option = app_->add_flag(name, value, description);
  if (!group_.empty()) option->group(group_);
}

template <class T>
Option Command::argument(const std::string& name, T& value, const std::string& description) {
  CLI::Option* option = app_->add_option(name, value, description)->capture_default_str();
  return Option(option->multi_option_policy(CLI::MultiOptionPolicy::Throw));
}
template Option Command::argument(const std::string&, std::string&, const std::string&);
template Option Command::argument(const std::string&, Strings&, const std::string&);

void Command::device(std::string& value) {
  option("--device", value, device_name(), "auto (cuda where there is one), cpu, cuda, or cuda:N, the N-th");
}

Option Command::find(const std::string& name) const { return Option(app_->get_option(name)); }

void Command::set(const std::string& name, const Strings& values) {
  CLI::Option* option = app_->get_option(name);
  option->clear();
  option->add_result(values);
  option->run_callback();
}

std::string Command::name() const { return app_->get_name(); }

bool Command::has(const std::string& name) const { return app_->get_option_no_throw(name) != nullptr; }
std::string Command::value(const std::string& name) const { return values_of(*app_->get_option(name)).at(0); }

void Command::make_absolute(const std::string& name) {
  if (!has(name)) return;
  const std::filesystem::path path = value(name);
  if (std::filesystem::exists(path)) set(name, {std::filesystem::absolute(path).lexically_normal().string()});
}

void Command::read(const std::string& file, const std::map<std::string, std::string>& instead) {
  std::ifstream text(file);
  for (const TomlEntry& entry : parse_toml(file, text)) {
    const CLI::Option* option = app_->get_option_no_throw("--" + entry.name);
    check<ConfigError>(option != nullptr && entry.section.empty(), "{}:{}: unknown option '{}'", file,
                       entry.line, entry.name);
    Strings values = entry.values;
    std::erase(values, "");  // "" says: none
    if (const auto found = instead.find(entry.name); found != instead.end() && !values.empty())
      values = {found->second};
    if (option->count() > 0 || values.empty()) continue;
    try {
      set("--" + entry.name, values);
    } catch (const CLI::ParseError& error) {
      raise<ConfigError>("{}:{}: {}", file, entry.line, describe_value(*app_, error));
    }
  }
}

void Command::check_same(const std::string& file, const Strings& free) const {
  Strings names;  // of this command
  for (const std::string& name : free)
    if (app_->get_option_no_throw("--" + name) != nullptr) names.push_back("--" + name);
  std::ifstream text(file);
  for (const TomlEntry& entry : parse_toml(file, text)) {
    const std::string name = "--" + entry.name;
    const CLI::Option* option = app_->get_option_no_throw(name);
    if (option == nullptr || option->count() == 0 || std::count(names.begin(), names.end(), name) > 0)
      continue;
    const Strings given = values_of(*option);
    check<ConfigError>(same_values(given, entry.values),
                       "{}: the run has {} in {}, got {}; when it goes on only these can change: {}", name,
                       data::join(entry.values, ","), file, data::join(given, ","), data::join(names, ", "));
  }
}

std::string Command::to_toml(const Strings& left_out) const {
  std::string out;
  for (const CLI::Option* option : app_->get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || std::find(left_out.begin(), left_out.end(), name) != left_out.end()) continue;
    Strings values = values_of(*option);
    const bool list = option->get_expected_max() > 1;
    if (list && values.empty()) continue;
    if (option->get_type_name() == "TEXT")
      std::transform(values.begin(), values.end(), values.begin(), toml_string);
    const std::string text = data::join(values, ", ");
    out += fmt::format("{} = {}\n", name, list ? "[" + text + "]" : text);
  }
  return out;
}

}  // namespace tandem::command
