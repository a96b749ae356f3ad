// tandem: the command line. Exit status: 0 done, 1 a run that failed, 2 a command line that is wrong.
#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "autograd/error.h"
#include "tools/tandem/command.h"

namespace {

// `passes = 3` in a configuration file belongs to the command that is being run; sections may name another.
struct CommandConfig : CLI::ConfigTOML {
  explicit CommandConfig(const CLI::App& app) : app(app) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<std::string> path;
    for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
      at = at->get_subcommands().front();
      path.push_back(at->get_name());
    }
    std::vector<CLI::ConfigItem> items = CLI::ConfigTOML::from_config(input);
    for (CLI::ConfigItem& item : items) {
      if (item.parents.empty()) item.parents = path;
    }
    return items;
  }
  const CLI::App& app;
};

int run(int argc, char** argv) {
  CLI::App app("Tandem trains neural networks with m-pass R-Drop.", "tandem");
  app.require_subcommand(1);
  app.fallthrough();
  app.set_config("--config", "", "read options from a TOML file (`name = value`)");
  app.config_formatter(std::make_shared<CommandConfig>(app));
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_version_flag("--version", TANDEM_VERSION);
  tandem::command::add_data(app);
  tandem::command::add_train(app);
  tandem::command::add_run(app);
  tandem::command::add_ops(app);
  tandem::command::add_bench(app);
  try {
    app.parse(argc, argv);  // runs the command's callback
    return 0;
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "tandem: {}\nTry `tandem --help`, or `--help` after a command.\n", error.what());
    return 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const tandem::ConfigError& error) {  // an option of the right form with an impossible value
    fmt::print(stderr, "tandem: {}\n", error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "tandem: out of memory; a smaller --batch-size or --plan replay needs less\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "tandem: {}\n", error.what());
  }
  return 1;
}
