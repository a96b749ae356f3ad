#include "nn/ranks/join.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "autograd/error.h"
#include "autograd/shared_library.h"

namespace tandem::nn {
namespace {

// -1 where there is no such variable.
int number_of(const char* variable) {
  const char* value = variable ? std::getenv(variable) : nullptr;
  return value && *value ? std::atoi(value) : -1;
}

// Of "4(x2),3", for each machine how many of its tasks a step of srun has: those of this machine.
int tasks_of_node() {
  const char* counts = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  std::istringstream all(counts ? counts : "");
  int node = std::max(0, number_of("SLURM_NODEID"));
  for (std::string part; std::getline(all, part, ',');) {
    const size_t times = part.find("(x");
    const int machines = times == part.npos ? 1 : std::atoi(part.c_str() + times + 2);
    if (node < machines) return std::atoi(part.c_str());
    node -= machines;
  }
  return 1;
}

struct Variables {
  const char *launcher, *size, *rank, *local_size, *local_rank;
};
constexpr Variables kLaunchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", nullptr, "SLURM_LOCALID"},
    {"mpiexec", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"},
};

}  // namespace

std::optional<Launch> find_launch() {
  for (const Variables& names : kLaunchers) {
    const int size = number_of(names.size), rank = number_of(names.rank);
    if (size < 1 || rank < 0) continue;
    if (size == 1) return {};  // also within a step of srun, which may have more
    const int local_size = names.local_size ? number_of(names.local_size) : tasks_of_node();
    return Launch{names.launcher, rank, size, std::max(0, number_of(names.local_rank)),
                  std::max(1, local_size)};
  }
  return {};
}

std::string after_first_rank() {
  const std::optional<Launch> launch = find_launch();
  if (!launch || launch->rank == 0) return "";
  std::this_thread::sleep_for(std::chrono::milliseconds(2000 + 200 * std::min(launch->rank, 50)));
  return fmt::format("rank {} of {}: ", launch->rank, launch->size);
}

std::unique_ptr<Ranks> join_ranks() {
  const std::optional<Launch> launch = find_launch();
  if (!launch) return nullptr;
  const auto refuse = [&](const std::string& why) {
    raise<DeviceError>("{} started {} processes, which cannot join: {}", launch->launcher, launch->size, why);
  };
  const std::filesystem::path module = detail::find_module("libtandem_mpi.so");
  if (module.empty()) refuse("this build has no libtandem_mpi.so; it is built where MPI's headers are");
  std::string problem;
  void* library = detail::open_library(module, problem);
  if (!library) refuse(problem);
  const auto join = reinterpret_cast<Ranks* (*)()>(dlsym(library, "tandem_join_ranks"));
  if (!join) refuse(module.string() + " has no tandem_join_ranks");
  std::unique_ptr<Ranks> ranks(join());
  if (ranks->size() != launch->size)
    refuse(fmt::format("MPI knows {} of them; is the launcher of the MPI that the module was built with?",
                       ranks->size()));
  return ranks;
}

}  // namespace tandem::nn
