// The simulated device's counters, found in the running program: nothing here is linked with it.
#pragma once

#include <string>

#include "tests/cudasim/sim_c.h"

namespace tandem::bench {

struct Simulation {
  // Of the simulation that load_device("cudasim") loaded; DeviceError if there is none.
  static const Simulation& running();

  decltype(&cudasim_set_options) set_options;
  decltype(&cudasim_record_launches) record_launches;
  decltype(&cudasim_recorded_launch) recorded_launch;
  decltype(&cudasim_count_reused) count_reused;
  std::string folder;  // of its library, in a build of Tandem
};

}  // namespace tandem::bench
