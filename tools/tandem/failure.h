// What a command that failed says, and ends with.
#pragma once

#include <exception>
#include <string>

namespace tandem::command {

struct Failure {
  std::string message;  // of one line
  int status = 1;       // 1: a run that failed, 2: a command line that is wrong, 130: stopped by a signal
};
Failure failure_of(const std::exception_ptr& error);

// What a write to standard output failed of. `reason`: errno, 0 where it is that of an earlier write.
std::string output_failure(int reason);

}  // namespace tandem::command
