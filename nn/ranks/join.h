// How the processes of a training find each other: started by `mpirun -n 4` or `srun`, each learns from its
// environment that it is one of several, and joins the others by MPI. MPI comes as a module,
// libtandem_mpi.so, that is opened then: the library itself needs none.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "autograd/ranks.h"

namespace tandem::nn {

// What a launcher of several processes told this one.
struct Launch {
  std::string launcher;                // "mpirun", "srun"
  int rank = 0, size = 1;              // of all
  int local_rank = 0, local_size = 1;  // of those on this machine
};
// Empty for a process that was started by itself, or is the only one.
std::optional<Launch> find_launch();

// Joins the other ranks of find_launch(), once in a process; null where there are none. An exception that
// ends this rank must leave the scope of what is returned (autograd/ranks.h). A rank that uses a device of
// its own chooses it before (autograd/load_device.h). DeviceError where the MPI module, or what it needs, is
// not there, and for a launcher of another MPI.
std::unique_ptr<Ranks> join_ranks();

// Before a process says what it failed of: the others may have failed of the same, so all but the first rank
// wait a little, for their launcher to end them. What names this rank in a message, "" where none need be.
std::string after_first_rank();

}  // namespace tandem::nn
