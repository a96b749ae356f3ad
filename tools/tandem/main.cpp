// tandem: the command line. Exit status: 0 done, 1 a run that failed, 2 a command line that is wrong,
// 130 stopped by Ctrl-C.
#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>

#include "autograd/tell.h"
#include "tools/tandem/command_line.h"
#include "tools/tandem/commands.h"

namespace {

// `reason`: errno, which is of an earlier write where the buffer was lost then.
std::string output_failure(int reason) {
  return fmt::format("standard output: {}",
                     reason ? std::strerror(reason) : "what was written before is lost");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tandem;
  using namespace tandem::command;
  const CommandLine line{
      .description = "Tandem trains neural networks with m-pass R-Drop.",
      .footer =
          "`tandem help COMMAND` says more. A first run:\n"
          "  tandem train vit --data fashion-mnist --limit 2000 --passes 2 --run runs/first\n"
          "\nEnvironment:\n"
          "  TANDEM_DEVICE_PATH          folders of further device modules, colons between",
      .families = {add_data, add_train, add_sweep, add_run, add_report, add_export, add_text, add_tag,
                   add_score, add_ops, add_bench, add_doctor}};
  // A file that may not grow any more is an error of its writer, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    const int status = line.run(argc, argv);
    check<IoError>(std::fflush(stdout) == 0 && !std::ferror(stdout), "{}", output_failure(errno));
    return status;
  } catch (const ConfigError& error) {  // an option of the right form with an impossible value
    tell("tandem: {}", error.what());
    return 2;
  } catch (const Interrupted& stop) {
    tell("tandem: {}", stop.what());
    return 130;
  } catch (const std::filesystem::filesystem_error& error) {
    tell("tandem: {}: {}", error.path1().string(), error.code().message());
  } catch (const std::system_error& error) {  // fmt says "cannot write to file"
    tell("tandem: {}", std::ferror(stdout) ? output_failure(error.code().value()) : error.what());
  } catch (const std::bad_alloc&) {
    tell(
        "tandem: out of memory; a smaller --batch-size or --plan replay needs less (train --dry-run tells "
        "how much)");
  } catch (const std::exception& error) {
    tell("tandem: {}", error.what());
  }
  return 1;
}
