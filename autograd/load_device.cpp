// Devices come as shared libraries, found at run time: the core starts without any of them.
#include "autograd/load_device.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <utility>
#include <vector>

#include "autograd/device.h"
#include "autograd/load_kernels.h"
#include "autograd/shared_library.h"

namespace tandem {
namespace {

// Starts the module of a device, once; "" or what is wrong.
std::string start_module(const std::string& name) {
  const std::string file = "libtandem_" + name + ".so";
  const std::filesystem::path found = detail::find_module(file);
  if (found.empty()) return "this build has no " + file;
  std::string problem;
  void* library = detail::open_library(found, problem);
  if (!library) return problem;
  // Registers the device's backend; null, or the reason why there is no device.
  const auto start = reinterpret_cast<const char* (*)()>(dlsym(library, "tandem_start_device"));
  if (!start) return found.string() + " is not a device module: it has no tandem_start_device";
  if (const char* problem = start()) return problem;
  // One that runs is global: kernels of a user's own ops find its functions (load_kernels).
  dlopen(found.c_str(), RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
  return "";
}

struct Loaded {
  std::string name;                  // of the module that runs; "" before
  std::string number;                // of "cuda:N", where that was asked for
  std::string problem;               // of the last one that did not start
  std::vector<std::string> waiting;  // libraries of kernels, for when one runs
};
Loaded& loaded() {
  static Loaded state;
  return state;
}

void open_kernels(const std::string& file) {
  std::string problem;
  if (!detail::open_library(file, problem)) raise<IoError>("load: {}", problem);
}

// Of "cuda:1", 1: the process is shown the one device of that number among those that it is shown now. Must
// come before CUDA starts, so it is no other device than that of the first call.
void show_device(std::string_view name, const std::string& number) {
  std::string& chosen = loaded().number;
  check<DeviceError>(chosen.empty() || chosen == number,
                     "device '{}': 'cuda:{}' was asked for already, and a process has one CUDA device", name,
                     chosen);
  if (!chosen.empty()) return;
  check<DeviceError>(loaded().name.empty(),
                     "device '{}': CUDA runs already, on the device that it was first asked for", name);
  std::string visible = number;
  if (const char* given = std::getenv("CUDA_VISIBLE_DEVICES")) {
    std::istringstream devices(given);
    std::vector<std::string> all;
    for (std::string device; std::getline(devices, device, ',');) all.push_back(device);
    const size_t index = std::stoul(number);
    check<DeviceError>(index < all.size(), "device '{}': CUDA_VISIBLE_DEVICES has {} devices: {}", name,
                       all.size(), given);
    visible = all[index];
  }
  setenv("CUDA_VISIBLE_DEVICES", visible.c_str(), 1);
  chosen = number;
}

// Shows the process the device that "cuda:N" names. The module's name, which is before the colon, if any.
std::string module_of(std::string_view name) {
  const size_t colon = name.find(':');
  const std::string module(name.substr(0, colon));
  if (colon == name.npos || module != "cuda") {
    check<ConfigError>(name == "cuda" || name == "cudasim",
                       "device: expected auto, cpu, cuda, cuda:N or cudasim, got '{}'", name);
    return module;
  }
  const std::string number(name.substr(colon + 1));
  check<ConfigError>(
      !number.empty() && number.size() <= 4 &&
          std::all_of(number.begin(), number.end(), [](char c) { return '0' <= c && c <= '9'; }),
      "device: expected a number behind 'cuda:', got '{}'", name);
  show_device(name, number);
  return module;
}

bool try_load(const std::string& name) {
  Loaded& state = loaded();
  if (state.name == name) return true;
  check<DeviceError>(state.name.empty(), "device '{}': '{}' runs already, and a process has one CUDA device",
                     name, state.name);
  state.problem = start_module(name);
  if (!state.problem.empty()) return false;
  state.name = name;
  for (const std::string& file : std::exchange(state.waiting, {})) open_kernels(file);
  return true;
}

}  // namespace

void load_kernels(const std::string& file) {
  loaded().name.empty() ? loaded().waiting.push_back(file) : open_kernels(file);
}

void choose_device(std::string_view name) {
  try {
    if (name != "cpu" && name != "auto") module_of(name);
  } catch (const Error&) {  // every rank comes to where they join; load_device tells then
  }
}

Device load_device(std::string_view name) {
  if (name == "cpu") return kCpu;
  const Device cuda{DeviceType::cuda};
  if (name == "auto") return try_load("cuda") ? cuda : kCpu;
  const std::string module = module_of(name);
  check<DeviceError>(try_load(module), "device '{}': {}", name, loaded().problem);
  return cuda;
}

std::string why_no_cuda() { return loaded().problem; }

}  // namespace tandem
