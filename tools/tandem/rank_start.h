// What `mpirun -n 4 tandem train ...` does otherwise than `tandem train ...`.
#pragma once

#include <memory>
#include <string>

#include "nn/ranks/join.h"
#include "tools/tandem/command.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

// The device of this rank: of "auto" and "cuda" on a machine with several, the one of its place there.
std::string device_of_rank(const std::string& asked, const std::optional<nn::Launch>& launch);

// The processes of one machine share its cores, unless --threads, OMP_NUM_THREADS or the launcher say how
// many each has.
void share_threads(const TrainSettings& settings, const nn::Launch& launch);

// Waits for all ranks. ConfigError naming the option in which one differs, its version, or its device.
void check_same_command(Ranks& ranks, const Command& command, Device device);

// Calls `load` on the first rank, and then on the others: what it makes for the first time, one makes.
template <class Load> auto first_then_others(Ranks* ranks, Load load) {
  double turn = 0;
  if (ranks && !ranks->first()) ranks->sum({&turn, 1});
  auto loaded = load();
  if (ranks && ranks->first()) ranks->sum({&turn, 1});
  return loaded;
}

}  // namespace tandem::command
