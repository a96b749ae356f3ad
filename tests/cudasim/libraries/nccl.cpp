// The used subset of NCCL, between processes of one machine: what a rank gives to a sum is a file in memory,
// which the others wait for. Ranks come in any order, and a sum is done when the last one has come.
//
// CUDASIM_NCCL="join 1" in the environment: rank 1 does not come to join the others, though they do not
// notice; "sum 1": it cannot connect to them at the first sum.
#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "sim.h"

using namespace cudasim;

struct ncclComm {
  std::string name;  // of the folder of all its ranks' files
  int ranks = 0, rank = 0;
  int64_t sums = 0;  // that were begun
};

namespace {

std::string last_error;

ncclResult_t failed(ncclResult_t result, const std::string& words) {
  last_error = words;
  return result;
}

// The rank that CUDASIM_NCCL lets fail in this; -1: none.
int failing_rank(const std::string& what) {
  const char* set = std::getenv("CUDASIM_NCCL");
  const std::string asked = set ? set : "";
  return asked.starts_with(what + " ") ? std::atoi(asked.c_str() + what.size()) : -1;
}

std::string bus_id() {
  char id[16] = "";
  cudaDeviceGetPCIBusId(id, sizeof id, 0);
  return id;
}

std::string file_of(const std::string& name, int64_t sum, int rank) {
  return name + "/" + std::to_string(sum) + "." + std::to_string(rank);
}

// Whole at once: a file that is there is written.
void put(const std::string& file, const void* data, size_t bytes) {
  std::ofstream(file + ".part", std::ios::binary).write(static_cast<const char*>(data), bytes);
  std::filesystem::rename(file + ".part", file);
}

std::string take(const std::string& file, size_t bytes) {
  for (int tries = 0; !std::filesystem::exists(file); ++tries) {
    if (tries > 60000) {
      report("nccl", "ncclAllReduce: a rank did not come within a minute: " + file);
      return std::string(bytes, 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::string content(bytes, 0);
  std::ifstream(file, std::ios::binary).read(content.data(), static_cast<std::streamsize>(bytes));
  return content;
}

// What all ranks gave to a sum, added up in one order on all of them.
template <class T> void sum(ncclComm& comm, int64_t number, T* data, size_t count) {
  const size_t bytes = count * sizeof(T);
  std::vector<T> total(count);
  for (int rank = 0; rank < comm.ranks; ++rank) {
    const std::string part = take(file_of(comm.name, number, rank), bytes);
    for (size_t i = 0; i < count; ++i) {
      T value;
      std::memcpy(&value, part.data() + i * sizeof(T), sizeof(T));
      total[i] += value;
    }
  }
  std::memcpy(data, total.data(), bytes);
  // Whoever has come to this sum has read all of the one before.
  if (number > 0) std::filesystem::remove(file_of(comm.name, number - 1, comm.rank));
}

}  // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int made = 0;
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "/dev/shm/cudasim-nccl-%d-%d", getpid(), made++);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  if (ranks < 1 || rank < 0 || rank >= ranks || std::memchr(id.internal, 0, sizeof(id.internal)) == nullptr)
    return ncclInvalidArgument;
  *comm = nullptr;
  std::filesystem::create_directory(id.internal);
  const std::string name = id.internal, own = bus_id();
  put(file_of(name, -2, rank), own.data(), own.size());
  std::string duplicate;
  std::map<std::string, int> found;
  for (int other = 0; other < ranks; ++other) {
    const std::string where = take(file_of(name, -2, other), own.size());
    if (const auto [first, fresh] = found.emplace(where, other); !fresh && duplicate.empty())
      duplicate = "Duplicate GPU detected : rank " + std::to_string(first->second) + " and rank " +
                  std::to_string(other) + " both on CUDA device " + where;
  }
  if (!duplicate.empty()) {
    put(file_of(name, -2, rank) + "seen", "", 0);
    for (int other = 0; rank == 0 && other < ranks; ++other) take(file_of(name, -2, other) + "seen", 0);
    if (rank == 0) std::filesystem::remove_all(name);
    return failed(ncclInvalidUsage, duplicate);
  }
  if (rank == failing_rank("join")) return failed(ncclSystemError, "as was asked for: no memory to join");
  *comm = new ncclComm{name, ranks, rank};
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (comm == nullptr || !is_device_pointer(send) || !is_device_pointer(receive)) return ncclInvalidArgument;
  if (op != ncclSum || send != receive || (type != ncclFloat32 && type != ncclFloat64)) {
    report("not simulated", "ncclAllReduce: all but sums of f32 or f64 in place");
    return ncclInvalidUsage;
  }
  if (const int rank = failing_rank("sum"); rank >= 0)
    return rank == comm->rank ? failed(ncclSystemError, "as was asked for: no memory to connect")
                              : failed(ncclRemoteError, "the other rank has gone");
  const int64_t number = comm->sums++;
  const size_t bytes = count * (type == ncclFloat64 ? 8 : 4);
  cudaError_t status = enqueue(stream, "ncclAllReduce", [=] {
    put(file_of(comm->name, number, comm->rank), check_read(send, bytes, "ncclAllReduce: sendbuff"), bytes);
  });
  // A device goes on while its host waits for another process, which may want what this one gives; the
  // simulated one works when it is asked.
  if (status == cudaSuccess) status = cudaStreamSynchronize(stream);
  if (status == cudaSuccess)
    status = enqueue(stream, "ncclAllReduce", [=] {
      void* data = check_write(receive, bytes, "ncclAllReduce: recvbuff");
      type == ncclFloat64 ? sum(*comm, number, static_cast<double*>(data), count)
                          : sum(*comm, number, static_cast<float*>(data), count);
    });
  return status == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclInvalidArgument;
  // The others may still read what this one gave last; who goes last takes all away.
  const auto all = [comm](const char* what) {
    for (int rank = 0; rank < comm->ranks; ++rank) take(file_of(comm->name, -1, rank) + what, 0);
  };
  const std::string own = file_of(comm->name, -1, comm->rank);
  put(own + "end", "", 0);
  all("end");
  put(own + "gone", "", 0);
  if (comm->rank == 0) {
    all("gone");
    std::filesystem::remove_all(comm->name);
  }
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclInvalidArgument;
  std::error_code gone;  // by another rank, at the same time; nobody comes to its end
  std::filesystem::remove_all(comm->name, gone);
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclSystemError:
      return "unhandled system error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "an error";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

// Of the one device of a process, which is the machine's that CUDA_VISIBLE_DEVICES names when it is first
// asked.
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  if (id == nullptr || length < 13 || device < 0 || device >= count) return cudaErrorInvalidValue;
  static const int number = [] {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return visible ? std::atoi(visible) : 0;
  }();
  std::snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", number + device + 1);
  return cudaSuccess;
}
