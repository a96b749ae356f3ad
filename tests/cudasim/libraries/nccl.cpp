// The used subset of NCCL, between processes of one machine: what a rank gives to a sum is a file in memory,
// which the others wait for. Ranks come in any order, and a sum is done when the last one has come.
#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
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
  std::filesystem::create_directory(id.internal);
  *comm = new ncclComm{id.internal, ranks, rank};
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (comm == nullptr || !is_device_pointer(send) || !is_device_pointer(receive)) return ncclInvalidArgument;
  if (op != ncclSum || send != receive || (type != ncclFloat32 && type != ncclFloat64)) {
    report("not simulated", "ncclAllReduce: all but sums of f32 or f64 in place");
    return ncclInvalidUsage;
  }
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
  std::filesystem::remove_all(comm->name);  // nobody comes to its end
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : result == ncclInvalidArgument ? "invalid argument" : "an error";
}
