// Work of the compute stream, captured as a CUDA graph and launched as one.
#pragma once

#include <memory>

#include "autograd/device.h"

namespace tandem::cuda {

void begin_recording();
std::unique_ptr<Recording> end_recording();
void cancel_recording() noexcept;

}  // namespace tandem::cuda
