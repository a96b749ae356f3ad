// tandem: the command line. Exit status: 0 done, 1 a run that failed, 2 a command line that is wrong,
// 130 stopped by Ctrl-C.
#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "tools/tandem/command_line.h"
#include "tools/tandem/commands.h"

int main(int argc, char** argv) {
  using namespace tandem::command;
  const CommandLine line{
      .description = "Tandem trains neural networks with m-pass R-Drop.",
      .footer =
          "`tandem COMMAND --help` says more. A first run:\n"
          "  tandem train vit --data fashion-mnist --limit 2000 --passes 2 --run runs/first\n"
          "\nEnvironment:\n"
          "  TANDEM_DEVICE_PATH          folders of further device modules, colons between",
      .families = {add_data, add_train, add_run, add_text, add_score, add_ops, add_bench, add_doctor}};
  try {
    return line.run(argc, argv);
  } catch (const tandem::ConfigError& error) {  // an option of the right form with an impossible value
    fmt::print(stderr, "tandem: {}\n", error.what());
    return 2;
  } catch (const Interrupted& stop) {
    fmt::print(stderr, "tandem: {}\n", stop.what());
    return 130;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "tandem: out of memory; a smaller --batch-size or --plan replay needs less\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "tandem: {}\n", error.what());
  }
  return 1;
}
