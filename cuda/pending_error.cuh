#pragma once

#include "autograd/pending_error.h"

namespace tandem::cuda {

// Called by one thread of a kernel: what comes first in the stream stays.
__device__ inline void leave_error(PendingError* slot, const PendingError& error) {
  if (slot->raise == nullptr) *slot = error;
}

}  // namespace tandem::cuda
