#include "tools/tandem/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "autograd/error.h"
#include "autograd/registry.h"
#include "autograd/tell.h"
#include "nn/io/text.h"
#include "nn/ranks/join.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/suggest.h"
#include "tools/tandem/toml.h"

namespace tandem::command {
namespace {

constexpr const char* kLoadHelp = "a shared library of your own operators and tasks (repeatable)";
constexpr size_t kColumn = 30, kWidth = 80;  // of the help's second column, and of its page

bool is_flag(const CLI::Option& option) { return option.get_expected_min() == 0; }

// The deepest command of the command line; `app` itself when there is none.
CLI::App& active_command(CLI::App& app) {
  CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

// "train vit"
std::string command_path(const CLI::App& command) {
  if (command.get_parent() == nullptr) return "";
  const std::string above = command_path(*command.get_parent());
  return above.empty() ? command.get_name() : above + " " + command.get_name();
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

std::vector<std::string> names_of_subcommands(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

// Of the command and of those above it: "--epochs".
std::vector<std::string> names_of_options(const CLI::App* command) {
  std::vector<std::string> names{"--config", "--help", "--load"};
  for (; command != nullptr; command = command->get_parent())
    for (const CLI::Option* option : command->get_options([](const auto* o) { return o->nonpositional(); }))
      names.push_back("--" + option->get_lnames().front());
  return names;
}

std::string unknown_command(const CLI::App& above, const std::string& name) {
  const std::vector<std::string> names = names_of_subcommands(above);
  const std::string nearest = did_you_mean(name, names);
  return fmt::format("unknown command '{}'{}", name,
                     nearest.empty() ? ", expected one of " + data::join(names, ", ") : nearest);
}

// Help in two aligned columns, with defaults, that fits in 80 characters.
struct HelpFormatter : CLI::Formatter {
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
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
    if (commands.empty()) {
      out += two_columns("--config FILE", "read options from a TOML file (name = value)");
      out += two_columns("--load FILE", kLoadHelp);
    }
    return out + make_footer(app);
  }

  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string left = option->get_name(is_positional, !is_positional), right = option->get_description();
    if (is_positional) left = upper(left);
    for (size_t comma = left.find(','); comma != std::string::npos; comma = left.find(',', comma + 2)) {
      left.insert(comma + 1, " ");  // -h, --help
    }
    const bool flag = is_flag(*option);
    if (!flag && !is_positional) left += " " + option->get_type_name();
    const std::string standard = option->get_default_str();
    if (!flag && !standard.empty() && standard != "[]") right += fmt::format(" [{}]", standard);
    return two_columns(left, right);
  }

  std::string make_usage(const CLI::App* app, std::string) const override {
    std::string path = command_path(*app), out = "\nUsage: tandem" + (path.empty() ? "" : " " + path);
    for (const CLI::Option* option : app->get_options([](const auto* o) { return o->get_positional(); })) {
      std::string name = upper(option->get_name(true, false));
      if (option->get_expected_max() > 1) name += "...";
      out += option->get_required() ? " " + name : " [" + name + "]";
    }
    return out + (app->get_subcommands({}).empty() ? " [OPTION]...\n" : " COMMAND ...\n");
  }
};

// Whether `section` names a command below `app`: "train.vit".
bool is_command(const CLI::App& app, const std::string& section) {
  const std::string first = section.substr(0, section.find('.'));
  for (const CLI::App* sub : app.get_subcommands([&](const auto* s) { return s->get_name() == first; })) {
    if (first == section || is_command(*sub, section.substr(first.size() + 1))) return true;
  }
  return false;
}

// Reads --config for CLI11. Lines outside a section, and those of the section [train.vit], are options of the
// command being run; a section of another command is passed over; anything else is a ConfigError.
class CommandConfig : public CLI::ConfigTOML {
 public:
  explicit CommandConfig(CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& text) const override {
    const auto file = app_.get_option("--config")->as<std::string>();
    const CLI::App& command = active_command(app_);
    const std::vector<std::string> path = CLI::detail::split(command_path(command), ' ');
    const std::string section = data::join(path, ".");
    std::vector<CLI::ConfigItem> items;
    for (const TomlEntry& entry : parse_toml(file, text)) {
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
                         "{}unknown option '{}' of `tandem {}`, whose --help lists them{}", where, entry.name,
                         data::join(path, " "), did_you_mean("--" + entry.name, names_of_options(&command)));
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

  // "run.toml:3: " if the option's value was taken from the file, else "".
  std::string origin(const std::string& option) const {
    const auto found = origins_.find(option);
    return found == origins_.end() ? "" : found->second;
  }

 private:
  CLI::App& app_;
  mutable std::map<std::string, std::string> origins_;
};

// The command's flag for an option of the library: "--cuda-graph" for cuda_graph, "--vocab-size" for the size
// of vocab, "--adaptive-factor" where no other option ends in factor. "": it has none.
std::string flag_of(const CLI::App& command, const std::string& prefix, std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  for (const std::string& flag : {"--" + prefix + "-" + name, "--" + name})
    if (command.get_option_no_throw(flag) != nullptr) return flag;
  std::vector<std::string> ends;
  for (const CLI::Option* option : command.get_options([](const auto* o) { return o->nonpositional(); }))
    if (option->get_lnames().front().ends_with("-" + name))
      ends.push_back("--" + option->get_lnames().front());
  return ends.size() == 1 && !name.empty() ? ends[0] : "";
}

// A message that opens with an option of the library by the command's flag for it where there is one:
// "cuda_graph: ..." as "--cuda-graph: ...", and without what is configured in front: "vit: patch_size 7 ..."
// as
// "--patch-size 7 ...".
std::string with_flag(CLI::App& app, const std::string& message) {
  const auto is_name = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  const auto named_at = [&](size_t begin, const std::string& prefix) -> std::string {
    const auto first = message.begin() + static_cast<std::ptrdiff_t>(begin),
               end = std::find_if_not(first, message.end(), is_name);
    if (first == end || end == message.end() || (*end != ':' && *end != ' ')) return "";
    const std::string flag = flag_of(active_command(app), prefix, {first, end});
    return flag.empty() ? "" : flag + std::string(end, message.end());
  };
  const size_t colon = message.find(": ");
  const auto is_word = [](unsigned char c) { return std::isalpha(c) || c == ' '; };
  if (colon != std::string::npos &&
      std::all_of(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(colon), is_word))
    if (const std::string named = named_at(colon + 2, message.substr(0, colon)); !named.empty()) return named;
  const std::string named = named_at(0, "");
  return named.empty() ? message : named;
}

// What says which options of the library need less memory, with the command's flags for them.
std::string with_memory_flags(CLI::App& app, const std::string& message) {
  const bool trains = active_command(app).get_option_no_throw("--accumulate") != nullptr;
  const bool told = message.find("what fits: ") != std::string::npos;
  return trains && !told ? message + " (--accumulate, --plan replay)" : message;
}

// What is wrong with the command line, in one line.
std::string describe(CLI::App& app, const CLI::ParseError& error) {
  CLI::App& command = active_command(app);
  const std::string path = command_path(command), where = path.empty() ? "" : path + ": ";
  const bool is_family = !command.get_subcommands({}).empty();
  for (const std::string& extra : app.remaining(true)) {
    if (extra.starts_with('-'))
      return fmt::format("{}unknown option {}{}", where, extra,
                         did_you_mean(extra.substr(0, extra.find('=')), names_of_options(&command)));
    return where + (is_family ? unknown_command(command, extra) : "unexpected argument '" + extra + "'");
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && is_family)
    return fmt::format("{}expected a command: one of {}", where,
                       data::join(names_of_subcommands(command), ", "));
  if (dynamic_cast<const CLI::FileError*>(&error) != nullptr)
    return fmt::format("--config: '{}': no such file, or not one that can be read",
                       app.get_option("--config")->as<std::string>());
  return where + describe_value(command, error);
}

// `tandem help COMMAND`: prints what `tandem COMMAND --help` does.
void print_help(const CLI::App& app, const std::vector<std::string>& names) {
  const CLI::App* command = &app;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    if (name == "--load") ++i;            // its file, which has been loaded
    if (name.starts_with('-')) continue;  // `tandem help --help`
    const auto found = command->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == name; });
    check<ConfigError>(!found.empty(), "help: {}",
                       command->get_subcommands({}).empty() ? "unexpected argument '" + name + "'"
                                                            : unknown_command(*command, name));
    command = found.front();
  }
  fmt::print("{}", command->help());
}

// Libraries are loaded before there are commands, since they may bring some.
void load_libraries(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    std::string file;
    if (words[i].starts_with("--load=")) file = words[i].substr(7);
    if (words[i] == "--load" && i + 1 < words.size()) file = words[++i];
    if (file.empty()) continue;
    const size_t before = tasks().size();
    const std::vector<std::string> ops = load_library(file);
    std::set<std::string> names;
    for (const Task& task : tasks())
      check<ConfigError>(names.insert(task.name).second, "load: '{}': the task '{}' is registered twice",
                         file, task.name);
    check<ConfigError>(!ops.empty() || tasks().size() > before, "load: '{}' registers no op and no task",
                       file);
  }
}

}  // namespace

int CommandLine::run(int argc, char** argv) const {
  const std::vector<std::string> words(argv + 1, argv + argc);
  load_libraries(words);
  const auto app = std::make_shared<CLI::App>(description, "tandem");
  app->formatter(std::make_shared<HelpFormatter>());
  app->set_help_flag("-h,--help", "print this help");
  app->fallthrough();
  app->set_config("--config", "", "read options from a TOML file (name = value)")
      ->type_name("FILE")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  std::vector<std::string> libraries;  // loaded already
  app->add_option("--load", libraries, kLoadHelp)
      ->type_name("FILE")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  const auto config = std::make_shared<CommandConfig>(*app);
  app->config_formatter(config);
  app->set_version_flag("--version", TANDEM_VERSION, "print the version");
  Command root(app);
  for (const auto add_family : families) add_family(root);
  app->get_formatter()->label("Positionals", "Arguments");
  app->footer("\n" + footer);
  if (!words.empty() && words[0] == "help") {
    print_help(*app, {words.begin() + 1, words.end()});
    return 0;
  }
  try {
    app->parse(argc, argv);  // runs the command's action
    return 0;
  } catch (const CLI::Success& done) {  // --help, --version
    const CLI::App& command = active_command(*app);
    const std::vector<std::string> rest = app->remaining(true);
    if (rest.empty() || rest[0].starts_with('-') || command.get_subcommands({}).empty())
      return app->exit(done);
    throw ConfigError(unknown_command(command, rest[0]));
  } catch (const CLI::ParseError& error) {
    const std::string path = command_path(active_command(*app)), message = error.what(),
                      origin = config->origin(message.substr(0, message.find(':')));
    tell("tandem: {}{}\nTry `tandem {}--help`.", nn::after_first_rank(),
         origin.empty() ? describe(*app, error) : origin + describe_value(active_command(*app), error),
         path.empty() ? "" : path + " ");
    return 2;
  } catch (const ConfigError& error) {
    throw ConfigError(with_flag(*app, error.what()));
  } catch (const OutOfMemoryError& error) {
    throw OutOfMemoryError(with_memory_flags(*app, error.what()));
  } catch (const DeviceError& error) {
    throw DeviceError(with_flag(*app, error.what()));
  }
}

}  // namespace tandem::command
