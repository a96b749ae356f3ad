// Which kernels some work launches, as the simulated device has seen them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/device.h"
#include "tests/cuda/simulator.h"

namespace tandem::testing {

// Their names without types, in order. Empty on a real device.
inline std::vector<std::string> launched(const std::function<void()>& work) {
  const Simulator* sim = simulator();
  if (!sim) return work(), std::vector<std::string>{};
  backend(device()).synchronize();  // what was asked for before
  sim->record_launches(1);
  work();
  backend(device()).synchronize();
  sim->record_launches(0);
  std::vector<std::string> names;
  cudasim_launch launch;
  for (size_t i = 0; sim->recorded_launch(i, &launch); ++i) {
    const std::string name = launch.kernel;
    size_t begin = name.find("namespace)::");
    begin = begin == std::string::npos ? 0 : begin + 12;
    names.push_back(name.substr(begin, name.find_first_of("<(", begin) - begin));
  }
  return names;
}

}  // namespace tandem::testing
