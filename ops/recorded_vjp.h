// The vjp of a fused op under create_graph: by that of what the op is composed of.
#pragma once

#include "autograd/engine.h"
#include "autograd/op.h"
#include "ops/views.h"

namespace tandem::detail {

// The cotangents, recorded, of those inputs that `op` needs, where composed(in) is what the op computes. It
// is given views of them: so the backward through it ends there, and two inputs that are one tensor, or made
// of each other, have a cotangent each.
template <class Composed>
Tensors recorded_vjp(const Op& op, const Tensors& in, const Tensor& g, const Composed& composed) {
  Tensors own = in, wanted, result(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    if (!op.needs(i)) continue;
    own[i] = in[i].unsqueeze(0).squeeze(0);
    wanted.push_back(own[i]);
  }
  const Tensors gradients = grad(composed(own), wanted, g, {.create_graph = true});
  for (size_t i = 0, at = 0; i < in.size(); ++i)
    if (op.needs(i)) result[i] = gradients[at++];
  return result;
}

}  // namespace tandem::detail
