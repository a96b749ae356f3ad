#include "tests/cuda/roofline/traffic.h"

#include <algorithm>
#include <cstring>

#include "autograd/device.h"
#include "sim.h"

namespace tandem::roofline {
namespace {

// "tandem::cuda::map_kernel<4, ...>" is "map_kernel".
std::string short_name(const std::string& kernel) {
  std::string name = kernel.substr(0, kernel.find_first_of("<(", kernel.starts_with('(') ? 1 : 0));
  // An anonymous namespace has a parenthesis of its own: the name is behind the last one.
  if (const size_t at = kernel.rfind("(anonymous namespace)::"); at != std::string::npos) {
    name = kernel.substr(at + std::string_view("(anonymous namespace)::").size());
    name = name.substr(0, name.find_first_of("<("));
  }
  if (const size_t at = name.rfind("::"); at != std::string::npos) name = name.substr(at + 2);
  if (const size_t at = name.rfind(' '); at != std::string::npos) name = name.substr(at + 1);
  return name;
}

// "void tandem::cuda::map_kernel<4, tandem::detail::Add<float>, float>" is "map_kernel<4, Add<float>,
// float>".
std::string typed_name(std::string kernel) {
  for (const char* left_out : {"(anonymous namespace)::", "tandem::", "detail::", "cuda::", "void "})
    for (size_t at; (at = kernel.find(left_out)) != std::string::npos;)
      kernel.erase(at, std::strlen(left_out));
  return kernel;
}

}  // namespace

double Traffic::sector_use() const {
  double asked = 0;
  for (const KernelTraffic& k : kernels) asked += static_cast<double>(k.bytes);
  return sectors == 0 ? 1 : asked / (32.0 * static_cast<double>(sectors));
}

std::vector<KernelTraffic> recorded_kernels() {
  std::vector<KernelTraffic> kernels;
  for (const cudasim::LaunchCounters& launch : cudasim::recorded_launches()) {
    auto kernel = std::find_if(kernels.begin(), kernels.end(),
                               [&](const KernelTraffic& k) { return k.symbol == launch.symbol; });
    if (kernel == kernels.end()) {
      kernels.push_back({.name = short_name(launch.kernel),
                         .symbol = launch.symbol,
                         .typed_name = typed_name(launch.kernel)});
      kernel = kernels.end() - 1;
    }
    kernel->launches += 1;
    kernel->bytes += launch.read_bytes + launch.written_bytes;
    kernel->distinct += launch.distinct_read + launch.distinct_written;
    kernel->instructions += launch.warp_instructions;
    kernel->sectors += launch.read_sectors + launch.written_sectors;
    kernel->conflicts += launch.bank_conflicts;
    kernel->threads = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
    kernel->static_shared = launch.static_shared;
    kernel->dynamic_shared = std::max<uint64_t>(kernel->dynamic_shared, launch.dynamic_shared);
  }
  return kernels;
}

Traffic measure_traffic(const Workload& workload) {
  const PreparedWork work = workload.prepare();
  Traffic result{.minimum = work.minimum};
  cudasim::count_reused(nullptr, 0);
  for (const Tensor& t : work.shared) {
    const auto bytes = static_cast<size_t>(t.numel() * t.passes()) * size_of(t.dtype());
    cudasim::count_reused(t.device_raw(), bytes);
    result.counted += static_cast<double>(bytes);
  }
  cudasim::record_launches(true);
  work.run();
  backend(Device{DeviceType::cuda}).synchronize();
  cudasim::record_launches(false);
  cudasim::count_reused(nullptr, 0);
  result.kernels = recorded_kernels();
  for (const KernelTraffic& k : result.kernels) {
    result.counted += static_cast<double>(k.bytes);
    result.sectors += k.sectors;
    result.conflicts += k.conflicts;
    result.instructions += k.instructions;
    result.launches += k.launches;
  }
  return result;
}

}  // namespace tandem::roofline
