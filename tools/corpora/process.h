// Other programs, started without a shell: arguments arrive as they are.
#pragma once

#include <string>
#include <vector>

namespace tandem::data {

struct ProcessResult {
  int status = 0;      // exit status; 128 + signal if it was killed
  std::string output;  // what it wrote to stdout and stderr, in order
};

// True if `program` is found along PATH.
bool has_program(const std::string& program);

// Runs args[0] (searched along PATH) in `folder` (the current one if empty), with no input and untranslated
// messages, and waits for it. IoError if it cannot be started.
ProcessResult run_process(const std::vector<std::string>& args, const std::string& folder = {});

}  // namespace tandem::data
