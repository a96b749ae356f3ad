#include "autograd/graph.h"

#include <fmt/format.h>

#include <vector>

#include "autograd/error.h"
#include "autograd/op.h"
#include "autograd/tensor_impl.h"

namespace tandem {

std::string graph_to_dot(const Tensor& root, const std::map<std::string, Tensor>& names) {
  check<AutogradError>(root.requires_grad(), "graph_to_dot: {} does not require a gradient", describe(root));
  std::map<const void*, std::string> leaf_names;
  for (const auto& [name, tensor] : names)
    if (tensor.defined()) leaf_names[tensor.impl().get()] = name;
  std::string text = "digraph {\n  rankdir=BT\n  node [fontname=\"sans-serif\" shape=box style=rounded]\n";
  std::map<const void*, size_t> numbers;  // of the nodes so far
  std::vector<const Op*> to_visit;
  const auto op_node = [&](const Op* op) {
    const auto [at, is_new] = numbers.emplace(op, numbers.size());
    if (is_new) {
      text += fmt::format("  n{} [label=\"{}\\n{}{}{}\"]\n", at->second, op->name(), name_of(op->dtype_),
                          op->shape_, op->passes_ > 1 ? fmt::format(" x {} passes", op->passes_) : "");
      to_visit.push_back(op);
    }
    return at->second;
  };
  const auto leaf_node = [&](const TensorImpl& leaf) {
    const auto [at, is_new] = numbers.emplace(&leaf, numbers.size());
    if (is_new) {
      const auto name = leaf_names.find(&leaf);
      text += fmt::format("  n{} [shape=ellipse style=filled fillcolor=\"#e8f0e8\" label=\"{}{}{}\"]\n",
                          at->second, name == leaf_names.end() ? "" : name->second + "\\n",
                          name_of(leaf.dtype), leaf.shape);
    }
    return at->second;
  };
  if (root.grad_fn()) {
    op_node(root.grad_fn().get());
  } else {
    leaf_node(*root.impl());
  }
  while (!to_visit.empty()) {
    const Op* op = to_visit.back();
    to_visit.pop_back();
    for (const Op::Edge& edge : op->edges_) {
      if (!edge.needed) continue;
      const size_t from = edge.op ? op_node(edge.op.get()) : leaf_node(*edge.leaf);
      text += fmt::format("  n{} -> n{}\n", from, numbers.at(op));
    }
  }
  return text + "}\n";
}

}  // namespace tandem
