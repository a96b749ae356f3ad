// The graph behind a tensor, for the eye: `dot -Tsvg graph.dot > graph.svg`, or any viewer of Graphviz.
#pragma once

#include <map>
#include <string>

#include "autograd/tensor.h"

namespace tandem {

// The ops that a backward from `root` would go through, with the shapes of their outputs, and the leaves that
// get a gradient, by their names where `names` has them. AutogradError where root does not require a
// gradient.
std::string graph_to_dot(const Tensor& root, const std::map<std::string, Tensor>& names = {});

}  // namespace tandem
