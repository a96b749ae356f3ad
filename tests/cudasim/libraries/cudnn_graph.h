// The graphs of the simulated cuDNN: checks at finalization, what engines there are for one, and its
// execution.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "libraries/cudnn_tensor.h"

namespace cudasim {

bool is_output(cudnnBackendAttributeName_t name);  // of an operation

// Of a descriptor that is complete, when it is finalized: sizes fit, values are in range. Throws DnnError.
void check_descriptor(const Descriptor& descriptor);

enum class DnnKind { convolution, attention, attention_gradient };
DnnKind kind_of(const Descriptor& graph);
// What a plan of the real library takes, which compiles kernels for most of it: the medians of
// tests/cuda/plans for sm_90 (cuda/README.md).
double planning_seconds_of(DnnKind kind);

// What an engine does to a result, besides computing it.
struct DnnEngine {
  int64_t index;
  std::vector<cudnnBackendNumericalNote_t> notes;
  bool builds = true;  // otherwise a plan of it is not supported, which happens to the real ones
};
// Those the heuristics propose, the best first; empty: the real library has none for such a graph either.
std::vector<DnnEngine> engines_for(const Descriptor& graph);
int64_t workspace_of(const Descriptor& graph, const DnnEngine& engine);  // bytes, never 0

// The tensors in memory and the constants of a graph, each once.
std::vector<DnnTensor> outside_tensors(const Descriptor& graph);

struct DnnExecution {
  Node graph;
  DnnEngine engine;
  std::map<int64_t, void*> pointers;    // by uid
  std::map<int64_t, double> constants;  // by uid
};
void execute_graph(const DnnExecution& execution);  // in enqueued work

}  // namespace cudasim
