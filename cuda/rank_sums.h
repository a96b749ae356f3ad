// Sums over the GPUs of several ranks, by NCCL, which is opened at run time.
#pragma once

#include <memory>

#include "autograd/device.h"
#include "autograd/ranks.h"

namespace tandem::cuda {

// Null, on all ranks, unless every rank has NCCL and a GPU of its own, and NCCL joins them: the first rank
// then tells why not, in NCCL's own words.
std::unique_ptr<RankSums> join_devices(Ranks& ranks);

}  // namespace tandem::cuda
