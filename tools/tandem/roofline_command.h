// `tandem bench --roofline`: what kernels move on the simulated device, beside what they must.
#pragma once

#include <string>

namespace tandem::command {

struct RooflineOptions {
  std::string device;    // --device
  std::string arch;      // "sm_90"
  double bandwidth = 0;  // GB/s
  int64_t scale = 1;     // divides the rows
};

// Prints the table. ConfigError for another device than the simulated one, or an unknown architecture; Error
// after the table if some work moves more than is asked for.
void roofline(const RooflineOptions& options);

}  // namespace tandem::command
