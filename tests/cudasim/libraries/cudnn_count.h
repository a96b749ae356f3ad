// For tests that want to know whether cuDNN was used at all and what its plans would cost, or to have less of
// it.
#pragma once
#include <cstdint>

namespace cudasim {

uint64_t dnn_executions();      // plans run so far
double dnn_planning_seconds();  // that the real library would have taken for those made so far
bool& dnn_refuses();            // whether no plan is run, as of bad parameters
bool& dnn_fuses_bias();         // whether convolutions with a bias are supported, as they are at first
int64_t& dnn_workspace();       // bytes that every plan wants beside its own; 0 at first

}  // namespace cudasim

// Found by dlsym, as sim_c.h's are.
extern "C" {
void cudasim_dnn_workspace(int64_t bytes);
// What the library says to every graph, or to its heuristics but for the fallback's; 0: what is due.
void cudasim_dnn_graph_status(int status);
void cudasim_dnn_heuristics_status(int status);
}
