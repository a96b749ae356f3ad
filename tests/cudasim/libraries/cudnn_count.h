// For tests that want to know whether cuDNN was used at all and what its plans would cost, or to have less of
// it.
#pragma once
#include <cstdint>

namespace cudasim {

uint64_t dnn_executions();      // plans run so far
double dnn_planning_seconds();  // that the real library would have taken for those made so far
bool& dnn_refuses();            // whether no plan is run, as of bad parameters
bool& dnn_fuses_bias();         // whether convolutions with a bias are supported, as they are at first

}  // namespace cudasim
