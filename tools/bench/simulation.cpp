#include "tools/bench/simulation.h"

#include <dlfcn.h>

#include <filesystem>

#include "autograd/error.h"

namespace tandem::bench {
namespace {

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  check<DeviceError>(function != nullptr, "simulation: its library has no {}: it is of another build", name);
}

Simulation open() {
  void* library = dlopen("libcudasim.so", RTLD_LAZY | RTLD_NOLOAD);
  check<DeviceError>(library != nullptr, "simulation: no simulated device runs, expected --device cudasim");
  Simulation found;
  find(library, "cudasim_set_options", found.set_options);
  find(library, "cudasim_record_launches", found.record_launches);
  find(library, "cudasim_recorded_launch", found.recorded_launch);
  find(library, "cudasim_count_reused", found.count_reused);
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(found.record_launches), &info) && info.dli_fname)
    found.folder = std::filesystem::absolute(info.dli_fname).parent_path().string();
  return found;
}

}  // namespace

const Simulation& Simulation::running() {
  static const Simulation found = open();
  return found;
}

}  // namespace tandem::bench
