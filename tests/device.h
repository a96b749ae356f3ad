#pragma once

#include "autograd/device.h"

namespace tandem::testing {

Device device();  // that the suite runs on: --device=NAME, or the CPU

}  // namespace tandem::testing
