// tandem: the command line. Exit status: 0 done, 1 a run that failed, 2 a command line that is wrong,
// 130 stopped by Ctrl-C.
#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "autograd/error.h"
#include "tools/tandem/command.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/options.h"

namespace {

using namespace tandem::command;

int run(CLI::App& app, int argc, char** argv) {
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "print this help");
  app.require_subcommand(1);
  app.fallthrough();
  app.set_config("--config", "", "read options from a TOML file (name = value)")
      ->type_name("FILE")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto config = std::make_shared<CommandConfig>(app);
  app.config_formatter(config);
  app.set_version_flag("--version", TANDEM_VERSION, "print the version");
  add_data(app);
  add_train(app);
  add_run(app);
  add_text(app);
  add_score(app);
  add_ops(app);
  add_bench(app);
  app.get_formatter()->label("Positionals", "Arguments");
  app.footer(
      "\n`tandem COMMAND --help` says more. A first run:\n"
      "  tandem train vit --data fashion-mnist --limit 2000 --passes 2 --run runs/first");
  try {
    app.parse(argc, argv);  // runs the command's callback
    return 0;
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    const std::string path = command_path(active_command(app)), message = error.what(),
                      origin = config->origin(message.substr(0, message.find(':')));
    fmt::print(stderr, "tandem: {}\nTry `tandem {}--help`.\n",
               origin.empty() ? describe(app, error) : origin + message, path.empty() ? "" : path + " ");
    return 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tandem trains neural networks with m-pass R-Drop.", "tandem");
  try {
    return run(app, argc, argv);
  } catch (const tandem::ConfigError& error) {  // an option of the right form with an impossible value
    fmt::print(stderr, "tandem: {}\n", with_flag(app, error.what()));
    return 2;
  } catch (const Interrupted& stop) {
    fmt::print(stderr, "tandem: {}\n", stop.what());
    return 130;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "tandem: out of memory; a smaller --batch-size or --plan replay needs less\n");
  } catch (const tandem::DeviceError& error) {
    fmt::print(stderr, "tandem: {}\n", with_flag(app, error.what()));
  } catch (const std::exception& error) {
    fmt::print(stderr, "tandem: {}\n", error.what());
  }
  return 1;
}
