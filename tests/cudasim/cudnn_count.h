// For tests that want to know whether cuDNN was used at all.
#pragma once
#include <cstdint>

namespace cudasim {

uint64_t dnn_executions();  // plans run so far

}  // namespace cudasim
