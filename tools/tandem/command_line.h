// The command line as a person meets it: --help in two columns, --config FILE, and what is wrong, in one
// line.
#pragma once

#include "tools/tandem/command.h"

namespace tandem::command {

struct CommandLine {
  std::string description, footer;           // around the list of commands in --help
  std::vector<void (*)(Command&)> families;  // each adds its commands

  // Reads the arguments and does what the command says. The exit status: 2 for a wrong command line.
  int run(int argc, char** argv) const;
};

}  // namespace tandem::command
