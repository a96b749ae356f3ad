#include "cuda/rank_sums.h"

#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <cstring>
#include <exception>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "autograd/error.h"
#include "autograd/shared_library.h"
#include "autograd/tell.h"
#include "cuda/context.h"

namespace tandem::cuda {
namespace {

// NCCL's functions, of a library that is in the process already, or of libnccl.so.2.
struct Library {
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRank) init_rank = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  const char* (*last_error)(ncclComm_t) = nullptr;  // from NCCL 2.13 on

  bool complete() const {
    return get_unique_id && init_rank && all_reduce && destroy && abort && error_string;
  }
  void check(ncclResult_t status, const char* call) const {
    if (status == ncclSuccess) [[likely]]
      return;
    const char* words = last_error ? last_error(nullptr) : nullptr;
    raise<DeviceError>("ranks: {}: {}{}{}", call, error_string(status), words && *words ? ": " : "",
                       words ? words : "");
  }
};

template <class F> void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
}

const Library& nccl() {
  static const Library found = [] {
    std::string ignored;
    const bool here = dlsym(RTLD_DEFAULT, "ncclAllReduce") != nullptr;
    void* library = here ? RTLD_DEFAULT : detail::open_library("libnccl.so.2", ignored);
    Library functions;
    if (!here && !library) return functions;
    find(library, "ncclGetUniqueId", functions.get_unique_id);
    find(library, "ncclCommInitRank", functions.init_rank);
    find(library, "ncclAllReduce", functions.all_reduce);
    find(library, "ncclCommDestroy", functions.destroy);
    find(library, "ncclCommAbort", functions.abort);
    find(library, "ncclGetErrorString", functions.error_string);
    find(library, "ncclGetLastError", functions.last_error);
    return functions;
  }();
  return found;
}

// On a stream of its own, beside the backward's.
class NcclSums final : public RankSums {
 public:
  NcclSums() {
    cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (cudaEvent_t* event : {&given_, &summed_})
      cuda::check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~NcclSums() override {
    if (std::uncaught_exceptions() > exceptions_) {  // the others may not come
      abort();
      return;
    }
    cudaStreamSynchronize(stream_);
    if (comm_) nccl().destroy(comm_);
    for (const cudaEvent_t event : {given_, summed_}) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }

  void join(const ncclUniqueId& id, const Ranks& ranks) {
    nccl().check(nccl().init_rank(&comm_, ranks.size(), id, ranks.rank()), "ncclCommInitRank");
  }
  void abort() {
    if (comm_) nccl().abort(comm_);
    comm_ = nullptr;
  }

  void begin(void* data, int64_t count, bool f64) override {
    cuda::check(cudaEventRecord(given_, cuda::stream()), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(stream_, given_, 0), "cudaStreamWaitEvent");
    nccl().check(nccl().all_reduce(data, data, static_cast<size_t>(count), f64 ? ncclFloat64 : ncclFloat32,
                                   ncclSum, comm_, stream_),
                 "ncclAllReduce");
  }
  void end() override {
    cuda::check(cudaEventRecord(summed_, stream_), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(cuda::stream(), summed_, 0), "cudaStreamWaitEvent");
  }

 private:
  const int exceptions_ = std::uncaught_exceptions();
  cudaStream_t stream_ = nullptr;
  cudaEvent_t given_ = nullptr, summed_ = nullptr;  // by the backward; by NCCL
  ncclComm_t comm_ = nullptr;
};

// What NCCL tells GPUs apart by: their place in a machine, and the machine, whatever its name is elsewhere.
std::string this_gpu() {
  char host[256] = "", place[32] = "";
  gethostname(host, sizeof host - 1);
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  int device = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  cuda::check(cudaDeviceGetPCIBusId(place, sizeof place, device), "cudaDeviceGetPCIBusId");
  return fmt::format("{} of {}\n{}", place, host, boot);
}

// What f, which all ranks call, finds wrong on the first of them that has something to say; "" where none
// has. None goes on before all of them have come here.
template <class F> std::string problem_of(Ranks& ranks, F&& f) {
  std::string own;
  try {
    f();
  } catch (const DeviceError& error) {
    own = error.what();
  }
  const std::vector<std::string> all = ranks.gather(own);
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (!all[rank].empty()) return fmt::format("rank {}: {}", rank, all[rank]);
  return "";
}

// Two ranks on one GPU, which NCCL refuses, or one whose GPU cannot be told; "" where each has its own.
std::string shared_gpu(Ranks& ranks) {
  std::string mine;
  const std::string problem = problem_of(ranks, [&] { mine = this_gpu(); });
  if (!problem.empty()) return problem;
  std::map<std::string, int> found;
  const std::vector<std::string> gpus = ranks.gather(mine);
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (const auto [other, own] = found.emplace(gpus[rank], rank); !own)
      return fmt::format("ranks {} and {} have one GPU, {}", other->second, rank,
                         gpus[rank].substr(0, gpus[rank].find('\n')));
  return "";
}

// "" or why NCCL does not join the devices.
std::string join_by_nccl(Ranks& ranks, std::unique_ptr<NcclSums>& sums) {
  std::string problem =
      problem_of(ranks, [] { tandem::check<DeviceError>(nccl().complete(), "there is no libnccl.so.2"); });
  if (problem.empty()) problem = shared_gpu(ranks);
  if (!problem.empty()) return problem;
  ncclUniqueId id{};
  problem = problem_of(ranks, [&] {
    if (ranks.first()) nccl().check(nccl().get_unique_id(&id), "ncclGetUniqueId");
  });
  if (!problem.empty()) return problem;
  const std::string first = ranks.gather({id.internal, sizeof(id.internal)})[0];
  std::memcpy(id.internal, first.data(), sizeof(id.internal));
  std::optional<Scratch> one;  // before any rank waits for the others within NCCL
  problem = problem_of(ranks, [&] {
    sums = std::make_unique<NcclSums>();
    one.emplace(sizeof(float));
    cuda::check(cudaMemsetAsync(one->as<void>(), 0, sizeof(float), cuda::stream()), "cudaMemsetAsync");
  });
  if (!problem.empty()) return problem;
  problem = problem_of(ranks, [&] { sums->join(id, ranks); });
  if (!problem.empty()) return sums->abort(), problem;
  // Later versions connect the devices at the first sum alone.
  problem = problem_of(ranks, [&] { sums->begin(one->as<void>(), 1, false); });
  problem.empty() ? sums->end() : sums->abort();
  return problem;
}

}  // namespace

std::unique_ptr<RankSums> join_devices(Ranks& ranks) {
  std::unique_ptr<NcclSums> sums;
  const std::string problem = join_by_nccl(ranks, sums);
  if (problem.empty()) return sums;
  static bool told = false;
  if (ranks.first() && !std::exchange(told, true))
    tell("ranks: gradients are added up in the host's memory, since NCCL does not join the GPUs: {}",
         problem);
  return nullptr;
}

}  // namespace tandem::cuda
