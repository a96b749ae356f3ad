// Where kernels leave errors in data (autograd/pending_error.h), and where the host finds them.
#pragma once

#include "autograd/pending_error.h"

namespace tandem::cuda {

// On the device: the first error that was left since the last one was thrown. Kernels write with leave_error
// (cuda/pending_error.cuh).
PendingError* pending_error();

// Waits for stream(), then throws what is pending.
void synchronize();

}  // namespace tandem::cuda
