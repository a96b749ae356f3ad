// Launches of kernels: their limits, the layout of shared memory, and the running of a grid with its
// counters.
#include <cstring>
#include <map>
#include <set>

#include "memory/device_memory.h"
#include "ptx/interpreter.h"
#include "ptx/lexer.h"
#include "runtime/runtime.h"
#include "runtime/stream_order.h"

namespace cudasim {
namespace {

void collect(Function& function, std::set<Function*>& all) {
  if (!all.insert(&function).second) return;
  for (const Call& call : function.calls) collect(*call.callee, all);
}

std::vector<Function*> reachable(Function& kernel) {
  std::set<Function*> all;
  collect(kernel, all);
  return {all.begin(), all.end()};
}

constexpr uint32_t between_arrays = 128;  // bytes that belong to none

// Lays out shared memory: static arrays, then the dynamic one.
struct Layout {
  std::vector<Region> arrays;
  uint32_t bytes = 0, static_bytes = 0;
  std::map<const SharedVariable*, uint32_t> offsets;
};

std::map<std::pair<const Function*, uint32_t>, Layout>& layouts() {
  static auto& instance = *new std::map<std::pair<const Function*, uint32_t>, Layout>;
  return instance;
}

Layout lay_out(const std::vector<Function*>& functions, uint32_t dynamic) {
  Layout layout;
  uint32_t next = between_arrays;
  const auto place = [&](const std::string& name, uint32_t size) {
    Region region;
    region.begin = next;
    region.size = region.asked = size;
    region.kind = RegionKind::shared;
    region.name = name;
    region.shadow.create(size, true);
    layout.arrays.push_back(std::move(region));
    next = (next + size + 2 * between_arrays - 1) / between_arrays * between_arrays;
    return static_cast<uint32_t>(layout.arrays.back().begin);
  };
  std::vector<const SharedVariable*> dynamic_ones;
  for (const Function* function : functions) {
    for (const SharedFixup& fixup : function->shared_fixups) {
      const SharedVariable* variable = fixup.variable;
      if (layout.offsets.contains(variable)) continue;
      if (variable->dynamic) {
        layout.offsets[variable] = 0;
        dynamic_ones.push_back(variable);
      } else {
        layout.offsets[variable] = place(variable_name(variable->name), variable->size);
        layout.static_bytes =
            (layout.static_bytes + variable->align - 1) / variable->align * variable->align + variable->size;
      }
    }
  }
  if (dynamic != 0 || !dynamic_ones.empty()) {
    const uint32_t offset = place("dynamic shared memory", dynamic);
    for (const SharedVariable* variable : dynamic_ones) layout.offsets[variable] = offset;
  }
  layout.bytes = next;
  return layout;
}

// Layouts are kept from launch to launch: what is known about their bytes takes time to make.
Layout& layout_of(const Function& kernel, const std::vector<Function*>& functions, uint32_t dynamic) {
  constexpr size_t most = 64;
  auto& known = layouts();
  const auto key = std::make_pair(&kernel, dynamic);
  const auto it = known.find(key);
  if (it != known.end()) return it->second;
  if (known.size() == most) known.clear();
  return known.emplace(key, lay_out(functions, dynamic)).first->second;
}

// Writes the addresses of shared arrays into the constants of the functions that use them.
void fix_up(const Function& kernel, const std::vector<Function*>& functions, const Layout& layout) {
  for (Function* function : functions) {
    if (function->laid_out_for == &kernel) continue;
    function->laid_out_for = &kernel;
    for (const SharedFixup& fixup : function->shared_fixups) {
      const uint64_t address = layout.offsets.at(fixup.variable) + static_cast<uint64_t>(fixup.offset);
      for (uint32_t lane = 0; lane < warp_size; ++lane) {
        uint32_t* words = function->constants[fixup.chunk].words;
        if (fixup.wide) {
          std::memcpy(words + 2 * lane, &address, sizeof address);
        } else {
          words[lane] = static_cast<uint32_t>(address);
        }
      }
    }
  }
}

uint64_t launches = 0;
bool recording = false;
std::vector<LaunchCounters> recorded;

struct Request {
  Function* function;
  dim3 grid, block;
  uint32_t shared;
  std::vector<std::byte> parameters;
};

void run(const Request& request) {
  name_work("kernel " + demangled(request.function->name));
  const std::vector<Function*> functions = reachable(*request.function);
  Layout& layout = layout_of(*request.function, functions, request.shared);
  fix_up(*request.function, functions, layout);
  Launch launch;
  launch.kernel = request.function;
  launch.grid = request.grid;
  launch.block = request.block;
  launch.dynamic_shared = request.shared;
  launch.static_shared = layout.static_bytes;
  launch.shared = layout.arrays;
  launch.shared_bytes = layout.bytes;
  launch.parameters = request.parameters;
  launch.order = options().order;
  launch.check = options().check;
  launch.budget = options().budget;
  launch.random.seed(options().seed << 32 | ++launches);
  launch.counters.grid = request.grid;
  launch.counters.block = request.block;
  launch.counters.static_shared = layout.static_bytes;
  launch.counters.dynamic_shared = request.shared;
  execute(launch);
  if (recording) {
    launch.counters.kernel = demangled(request.function->name);
    launch.counters.symbol = request.function->name;
    recorded.push_back(launch.counters);
  }
}

}  // namespace

uint32_t static_shared_bytes(Kernel& kernel) {
  decode(*kernel.function);
  return layout_of(*kernel.function, reachable(*kernel.function), 0).static_bytes;
}

cudaError_t launch_kernel(Kernel& kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                          cudaStream_t stream) {
  Function& function = *kernel.function;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) return failed(cudaErrorInvalidConfiguration);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) {
    return failed(cudaErrorInvalidConfiguration);
  }
  if (threads > static_cast<uint64_t>(function.max_threads)) return failed(cudaErrorInvalidValue);
  if (function.module->target > options().arch) return failed(cudaErrorNoKernelImageForDevice);
  try {
    decode(function);
  } catch (const PtxError& error) {
    report("unknown PTX", error.what(), cudaErrorInvalidPtx);
    return failed(cudaErrorInvalidPtx);
  }
  if (shared > static_cast<size_t>(kernel.max_dynamic_shared) ||
      (kernel.max_dynamic_shared <= 48 * 1024 && shared + static_shared_bytes(kernel) > 48 * 1024)) {
    return failed(cudaErrorInvalidValue);
  }
  auto request = std::make_shared<Request>();
  request->function = &function;
  request->grid = grid;
  request->block = block;
  request->shared = static_cast<uint32_t>(shared);
  request->parameters.resize(function.parameter_bytes);
  for (size_t i = 0; i < function.parameters.size(); ++i) {
    const Parameter& p = function.parameters[i];
    std::memcpy(request->parameters.data() + p.offset, arguments[i], p.size);
  }
  return submit(stream, [request] { run(*request); });
}

void forget_layouts() { layouts().clear(); }

void record_launches(bool on) {
  const Lock lock(device_mutex());
  recording = on;
  if (on) recorded.clear();
}
const std::vector<LaunchCounters>& recorded_launches() { return recorded; }

}  // namespace cudasim
