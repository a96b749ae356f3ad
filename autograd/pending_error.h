// Errors that a device finds in its data. The host has gone on by then: a kernel leaves the error in a slot,
// goes on without harm, and the host throws it when it next waits for the device.
#pragma once

#include <cstdint>

namespace tandem {

struct PendingError {
  void (*raise)(const PendingError& error) = nullptr;  // throws, on the host; null: there is no error
  const char* op = nullptr;                            // a name that lives as long as the process
  int64_t values[3] = {};                              // what raise() puts into words
};

}  // namespace tandem
