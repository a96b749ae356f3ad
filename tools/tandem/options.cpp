#include "tools/tandem/options.h"

#include <fmt/format.h>
#include <filesystem>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>

#include "nn/io/text.h"

namespace tandem::command {
namespace {

constexpr size_t kColumn = 30, kWidth = 80;  // of the help's second column, and of its page

template <class T>
std::optional<T> parse(const std::string& text) {
  T value{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

CLI::Validator number(const char* expected, bool (*holds)(double)) {
  return CLI::Validator(
      [=](const std::string& text) {
        const auto value = parse<double>(text);
        return value && holds(*value) ? "" : fmt::format("expected {}, got '{}'", expected, text);
      },
      "");
}

// "  left   right", the right column wrapped at words.
std::string two_columns(const std::string& left, const std::string& right) {
  std::string out = "  " + left;
  out.append(out.size() < kColumn - 1 ? kColumn - out.size() : 0, ' ');
  if (out.size() > kColumn) out += "\n" + std::string(kColumn, ' ');
  size_t column = kColumn;
  for (const std::string& word : CLI::detail::split(right, ' ')) {
    if (column > kColumn && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(kColumn, ' ');
      column = kColumn;
    }
    if (column > kColumn) out += ' ', ++column;
    out += word;
    column += word.size();
  }
  return out + "\n";
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string names_of_subcommands(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands({})) names.push_back(sub->get_name());
  return data::join(names, ", ");
}

}  // namespace

CLI::Validator integer(int64_t low, int64_t high) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        const auto value = parse<int64_t>(text);
        if (!value) return fmt::format("expected an integer, got '{}'", text);
        if (*value < low) return fmt::format("expected an integer of at least {}, got {}", low, text);
        if (*value > high) return fmt::format("expected an integer of at most {}, got {}", high, text);
        return "";
      },
      "");
}

CLI::Validator positive() {
  return number("a number > 0", [](double x) { return std::isfinite(x) && x > 0; });
}
CLI::Validator non_negative() {
  return number("a number >= 0", [](double x) { return std::isfinite(x) && x >= 0; });
}
CLI::Validator fraction() {
  return number("a number in [0, 1)", [](double x) { return x >= 0 && x < 1; });
}

CLI::Validator positive_fraction() {
  return number("a number in (0, 1)", [](double x) { return x > 0 && x < 1; });
}

CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& text) { return text.empty() ? "expected a name, got ''" : ""; },
                        "");
}

CLI::Validator existing_file() {
  return CLI::Validator(
      [](const std::string& file) {
        const bool there = file.empty() || std::filesystem::is_regular_file(file);
        return there ? "" : fmt::format("expected a file, got '{}'", file);
      },
      "");
}

// cudasim, a simulated device for tests, is there but no choice for users: it is not named.
CLI::Validator device_name() {
  return CLI::Validator(
      [](const std::string& text) {
        for (const char* name : {"auto", "cpu", "cuda", "cudasim"})
          if (text == name) return std::string();
        return fmt::format("expected auto, cpu or cuda, got '{}'", text);
      },
      "");
}

std::string device_line(const std::string& asked, Device found) {
  const std::string line = fmt::format("Device: {}", backend(found).description());
  return asked == "auto" && found == kCpu ? fmt::format("{} ({})", line, why_no_cuda()) : line;
}

CLI::Validator one_of(const std::vector<std::string>& names) {
  return CLI::Validator(
      [names](const std::string& text) {
        return std::find(names.begin(), names.end(), text) != names.end()
                   ? ""
                   : fmt::format("expected one of {}, got '{}'", data::join(names, ", "), text);
      },
      "");
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const {
  std::string out = app->get_description() + "\n" + make_usage(app, name) + make_positionals(app);
  const auto commands = app->get_subcommands({});
  if (!commands.empty()) out += "\nCommands:\n";
  for (const CLI::App* command : commands)
    out += two_columns(command->get_name(), command->get_description());
  std::vector<std::string> groups = app->get_groups();
  // --help and the like come last.
  std::stable_partition(groups.begin(), groups.end(), [](const auto& group) { return group != "Options"; });
  for (const std::string& group : groups) {
    const auto options = app->get_options(
        [&](const CLI::Option* option) { return option->get_group() == group && option->nonpositional(); });
    if (!group.empty() && !options.empty()) out += make_group(group, false, options);
  }
  if (!commands.empty()) return out + make_footer(app);
  return app->get_parent() != nullptr
             ? out + two_columns("--config FILE", "read options from a TOML file (name = value)")
             : out;
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string left = option->get_name(is_positional, !is_positional), right = option->get_description();
  if (is_positional) left = upper(left);
  for (size_t comma = left.find(','); comma != std::string::npos; comma = left.find(',', comma + 2)) {
    left.insert(comma + 1, " ");  // -h, --help
  }
  const bool flag = option->get_expected_min() == 0;
  if (!flag && !is_positional) left += " " + option->get_type_name();
  const std::string standard = option->get_default_str();
  if (!flag && !standard.empty() && standard != "[]") right += fmt::format(" [{}]", standard);
  return two_columns(left, right);
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string) const {
  std::string path = command_path(*app), out = "\nUsage: tandem" + (path.empty() ? "" : " " + path);
  for (const CLI::Option* option : app->get_options([](const auto* o) { return o->get_positional(); })) {
    std::string name = upper(option->get_name(true, false));
    if (option->get_expected_max() > 1) name += "...";
    out += option->get_required() ? " " + name : " [" + name + "]";
  }
  return out + (app->get_subcommands({}).empty() ? " [OPTION]...\n" : " COMMAND ...\n");
}

CLI::App& active_command(CLI::App& app) {
  CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

std::string command_path(const CLI::App& command) {
  if (command.get_parent() == nullptr) return "";
  const std::string above = command_path(*command.get_parent());
  return above.empty() ? command.get_name() : above + " " + command.get_name();
}

std::string with_flag(CLI::App& app, const std::string& message) {
  const size_t end = std::min(message.find(':'), message.size());
  std::string flag = "--" + message.substr(0, end);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return active_command(app).get_option_no_throw(flag) ? flag + message.substr(end) : message;
}

std::string describe(CLI::App& app, const CLI::ParseError& error) {
  CLI::App& command = active_command(app);
  const std::string path = command_path(command), where = path.empty() ? "" : path + ": ";
  for (const std::string& extra : app.remaining(true)) {
    if (extra.starts_with('-')) return fmt::format("{}unknown option {}", where, extra);
    if (!command.get_subcommands({}).empty())
      return fmt::format("{}unknown command '{}', expected one of {}", where, extra,
                         names_of_subcommands(command));
    return fmt::format("{}unexpected argument '{}'", where, extra);
  }
  const std::string message = error.what();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !command.get_subcommands({}).empty())
    return fmt::format("{}expected a command: one of {}", where, names_of_subcommands(command));
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr)
    return fmt::format("{}{}: expected a value", where, message.substr(0, message.find(':')));
  if (dynamic_cast<const CLI::FileError*>(&error) != nullptr)
    return fmt::format("--config: '{}': no such file, or not one that can be read",
                       app.get_option("--config")->as<std::string>());
  return where + message;
}

}  // namespace tandem::command
