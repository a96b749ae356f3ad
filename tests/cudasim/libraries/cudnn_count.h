// For tests that want to know whether cuDNN was used at all, or to have less of it.
#pragma once
#include <cstdint>

namespace cudasim {

uint64_t dnn_executions();  // plans run so far
bool& dnn_fuses_bias();     // whether convolutions with a bias are supported, as they are at first

}  // namespace cudasim
