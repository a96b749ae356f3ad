#include "tools/tandem/rank_start.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "autograd/parallel.h"
#include "nn/ranks/agreement.h"

namespace tandem::command {

std::string device_of_rank(const std::string& asked, const std::optional<nn::Launch>& launch) {
  if (!launch || launch->local_size == 1 || (asked != "auto" && asked != "cuda")) return asked;
  // Where the launcher shows each rank its own one, that is the only one.
  const std::string visible = std::getenv("CUDA_VISIBLE_DEVICES") ? std::getenv("CUDA_VISIBLE_DEVICES") : "";
  if (!visible.empty() && visible.find(',') == visible.npos) return asked;
  const std::string own = fmt::format("cuda:{}", launch->local_rank);
  if (asked == "cuda") return own;
  try {
    load_device(own);
    return own;
  } catch (const DeviceError&) {
    return "cpu";
  }
}

void share_threads(const TrainSettings& settings, const nn::Launch& launch) {
  if (settings.threads > 0 || std::getenv("OMP_NUM_THREADS")) return;
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  set_num_threads(std::clamp<int>(static_cast<int>(cores / launch.local_size), 1, num_threads()));
}

void check_same_command(Ranks& ranks, const Command& command, Device device) {
  std::map<std::string, std::string> entries{{"version", TANDEM_VERSION},
                                             {"device", std::string(name_of(device))}};
  std::istringstream lines(command.to_toml({"config", "threads", "device"}));
  for (std::string line; std::getline(lines, line);)
    if (const size_t equals = line.find(" = "); equals != line.npos)
      entries["--" + line.substr(0, equals)] = line.substr(equals + 3);
  nn::check_agreement(ranks, entries);
}

}  // namespace tandem::command
