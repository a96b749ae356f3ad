// Work of the compute stream, captured as a CUDA graph and launched as one.
#pragma once

#include <memory>

#include "autograd/device.h"

namespace tandem::cuda {

// As Backend's.
void begin_recording(const Recording* like);
std::unique_ptr<Recording> end_recording();
void cancel_recording() noexcept;

}  // namespace tandem::cuda
