#include "cuda/rank_sums.h"

#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <exception>
#include <string>

#include "autograd/error.h"
#include "autograd/shared_library.h"
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

  bool complete() const {
    return get_unique_id && init_rank && all_reduce && destroy && abort && error_string;
  }
  void check(ncclResult_t status, const char* call) const {
    tandem::check<DeviceError>(status == ncclSuccess, "ranks: {}: {}", call, error_string(status));
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
    return functions;
  }();
  return found;
}

// On a stream of its own, beside the backward's.
class NcclSums final : public RankSums {
 public:
  NcclSums(const ncclUniqueId& id, const Ranks& ranks) {
    cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (cudaEvent_t* event : {&given_, &summed_})
      cuda::check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    nccl().check(nccl().init_rank(&comm_, ranks.size(), id, ranks.rank()), "ncclCommInitRank");
  }
  ~NcclSums() override {
    if (std::uncaught_exceptions() > exceptions_) {  // the others may not come
      nccl().abort(comm_);
      return;
    }
    cudaStreamSynchronize(stream_);
    nccl().destroy(comm_);
    for (const cudaEvent_t event : {given_, summed_}) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
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

}  // namespace

std::unique_ptr<RankSums> join_devices(Ranks& ranks) {
  for (const std::string& has : ranks.gather(nccl().complete() ? "yes" : "no"))
    if (has == "no") return nullptr;
  ncclUniqueId id{};
  if (ranks.first()) nccl().check(nccl().get_unique_id(&id), "ncclGetUniqueId");
  const std::string first = ranks.gather({id.internal, sizeof(id.internal)})[0];
  std::memcpy(id.internal, first.data(), sizeof(id.internal));
  return std::make_unique<NcclSums>(id, ranks);
}

}  // namespace tandem::cuda
