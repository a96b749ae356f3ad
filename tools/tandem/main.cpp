// tandem: the command line. Exit status: 0 done, 1 a run that failed, 2 a command line that is wrong,
// 130 stopped by Ctrl-C.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include "autograd/error.h"
#include "autograd/tell.h"
#include "nn/ranks/join.h"
#include "tools/tandem/command_line.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/failure.h"

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
  } catch (...) {
    const Failure failure = failure_of(std::current_exception());
    const std::string rank = nn::after_first_rank();
    if (rank.empty() || failure.status != 130) tell("tandem: {}{}", rank, failure.message);
    return failure.status;
  }
}
