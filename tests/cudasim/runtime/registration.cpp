// What nvcc's host code calls when a program starts and when a kernel is launched: modules, kernels,
// variables.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "memory/device_memory.h"
#include "ptx/interpreter.h"
#include "ptx/lexer.h"
#include "ptx/mutation.h"
#include "runtime/runtime.h"
#include "runtime/stream_order.h"

namespace cudasim {
namespace {

struct FatbinWrapper {
  int magic, version;
  const unsigned char* data;
  void* more;
};

struct Variable {
  Module* module;
  std::string name;
};

struct Registry {
  std::vector<std::unique_ptr<Module>> modules;
  std::map<const void*, Kernel> kernels;
  std::map<const void*, Variable> variables;
};

Registry& registry() {
  static auto& instance = *new Registry;
  return instance;
}

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "cudasim: %s\n", what.c_str());
  std::abort();
}

template <class T> T read(const unsigned char* from) {
  T result;
  std::memcpy(&result, from, sizeof result);
  return result;
}

// The compute capability that PTX is for, 10 * major + minor, from ".target sm_80".
int target_of(std::string_view text) {
  const size_t at = text.find(".target sm_");
  int result = 0;
  if (at != std::string_view::npos) std::from_chars(text.data() + at + 11, text.data() + text.size(), result);
  return result;
}

// The text of the entry of PTX that the device would take: that for the latest compute capability that it
// has. An entry: kind at 0, size of its header at 4, of its contents at 8.
std::string_view ptx_of(const unsigned char* fatbin) {
  const unsigned char* entry = fatbin + read<uint16_t>(fatbin + 6);
  const unsigned char* end = entry + read<uint64_t>(fatbin + 8);
  std::string_view best;
  while (entry < end) {
    const auto kind = read<uint16_t>(entry);
    const auto header = read<uint32_t>(entry + 4);
    const auto size = read<uint64_t>(entry + 8);
    if (kind == 1) {
      const char* text = reinterpret_cast<const char*>(entry + header);
      const std::string_view found(text, strnlen(text, size));
      if (found.find(".version") == std::string_view::npos) {
        die("a module's PTX is compressed; nvcc needs --compress-mode=none");
      }
      const int target = target_of(found);
      if (best.empty() || (target <= options().arch && target > target_of(best))) best = found;
    }
    entry += header + size;
  }
  if (best.empty()) die("a module holds no PTX; nvcc needs -gencode arch=compute_75,code=compute_75");
  return best;
}

// Finds what the module has, and puts its variables into device memory.
void load(Module& module) {
  if (module.scanned) return;
  try {
    scan(module);
  } catch (const PtxError& error) {
    die(error.what());
  }
  for (auto& [name, variable] : module.globals) {
    if (variable.size == 0) continue;
    Region* region =
        allocate_region(variable.size, variable.constant ? RegionKind::constant : RegionKind::variable, name);
    if (region == nullptr) die("no device memory for the variable '" + name + "'");
    std::copy(variable.initial.begin(), variable.initial.end(), region->bytes);
    if (region->shadow.exists()) region->shadow.mark(0, variable.size, true);
    variable.address = region->begin;
  }
  for (auto& [name, variable] : module.globals) {
    for (const GlobalVariable::Pointer& pointer : variable.pointers) {
      const auto target = module.globals.find(pointer.symbol);
      if (target == module.globals.end())
        die("variable '" + name + "' points to '" + pointer.symbol + "', which is none");
      const uint64_t address = target->second.address + static_cast<uint64_t>(pointer.offset);
      std::memcpy(find_region(variable.address, 1)->bytes + pointer.at, &address, sizeof address);
    }
  }
}

}  // namespace

Kernel* find_kernel(const void* host) {
  const auto it = registry().kernels.find(host);
  if (it == registry().kernels.end()) return nullptr;
  Kernel& kernel = it->second;
  if (kernel.function == nullptr) {
    load(*kernel.module);
    const auto function = kernel.module->functions.find(kernel.name);
    if (function == kernel.module->functions.end())
      die("kernel '" + kernel.name + "' is not in its module's PTX");
    kernel.function = function->second.get();
  }
  return &kernel;
}

uint64_t find_variable(const void* host, size_t& size) {
  const auto it = registry().variables.find(host);
  if (it == registry().variables.end()) return 0;
  load(*it->second.module);
  const auto variable = it->second.module->globals.find(it->second.name);
  if (variable == it->second.module->globals.end()) return 0;
  size = variable->second.size;
  return variable->second.address;
}

size_t check_all_kernels() {
  const Lock lock(device_mutex());
  std::string problems;
  size_t count = 0;
  for (const auto& module : registry().modules) {
    load(*module);
    for (Function* function : module->in_order) {
      ++count;
      try {
        decode(*function);
      } catch (const PtxError& error) {
        problems += std::string("\n") + error.what();
      }
    }
  }
  if (!problems.empty()) throw std::runtime_error("the simulator does not execute:" + problems);
  return count;
}

std::vector<std::string_view> module_texts() {
  const Lock lock(device_mutex());
  std::vector<std::string_view> result;
  for (const auto& module : registry().modules) result.push_back(module->text);
  return result;
}

}  // namespace cudasim

using namespace cudasim;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  const Lock lock(device_mutex());
  auto module = std::make_unique<Module>();
  module->text = mutated(ptx_of(static_cast<FatbinWrapper*>(wrapper)->data), registry().modules.size());
  module->target = target_of(module->text);
  registry().modules.push_back(std::move(module));
  return reinterpret_cast<void**>(registry().modules.back().get());
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void** handle) {
  const Lock lock(device_mutex());
  Registry& r = registry();
  const auto* module = reinterpret_cast<Module*>(handle);
  forget_layouts();
  std::erase_if(r.kernels, [&](const auto& entry) { return entry.second.module == module; });
  std::erase_if(r.variables, [&](const auto& entry) { return entry.second.module == module; });
  std::erase_if(r.modules, [&](const auto& entry) { return entry.get() == module; });
}

char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  const Lock lock(device_mutex());
  Kernel kernel;
  kernel.module = reinterpret_cast<Module*>(handle);
  kernel.name = name;
  registry().kernels[host] = kernel;
}

void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int, size_t, int, int) {
  const Lock lock(device_mutex());
  registry().variables[host] = {reinterpret_cast<Module*>(handle), name};
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
  return cudaSuccess;
}

// The configuration of a <<<>>> waits here for the stub that it calls.
struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
static thread_local std::vector<Configuration> configurations;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  if (configurations.empty()) return failed(cudaErrorMissingConfiguration);
  const Configuration c = configurations.back();
  configurations.pop_back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.shared;
  *static_cast<cudaStream_t*>(stream) = c.stream;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t stream) {
  const Lock lock(device_mutex());
  if (const cudaError_t error = missing_device()) return error;
  if (const cudaError_t error = status()) return error;
  Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return failed(cudaErrorInvalidDeviceFunction);
  return launch_kernel(*kernel, grid, block, arguments, shared, stream);
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes,
                          config->stream);
}
}
