// Sums over the GPUs of several ranks, by NCCL, which is opened at run time.
#pragma once

#include <memory>

#include "autograd/device.h"
#include "autograd/ranks.h"

namespace tandem::cuda {

// Null unless every rank has NCCL. DeviceError naming NCCL's own words where it cannot join the devices, as
// two ranks on one.
std::unique_ptr<RankSums> join_devices(Ranks& ranks);

}  // namespace tandem::cuda
