// The gradient checker. A derivative rule is right when <v, J u> measured by central differences equals
// <vjp(v), u> for random v and u: one inner-product identity checks every entry at once. The cotangent v is
// never all ones, under which the gradient of a softmax, say, vanishes and hides its errors.
#pragma once

#include <functional>
#include <string>

#include "autograd/tensor.h"

namespace tandem {

// How gradcheck() measures, and what it lets pass.
struct GradcheckOptions {
  double step = 6e-6;         // of the central difference
  double tolerance = 1e-6;    // relative to |v| |J u|
  int directions = 3;         // random pairs (u, v)
  bool second_order = false;  // check the gradient of the gradient too
  uint64_t seed = 1;          // of the directions
};

// What gradcheck() found.
struct GradcheckResult {
  bool passed = true;   // the error is below the tolerance
  double error = 0;     // the worst relative error
  std::string message;  // on failure: the input, both numbers, and the worst entry of the full Jacobian
};

// Checks the gradient of f with respect to every floating input (f64, required) at `inputs`, which must be
// away from kinks. f must be a pure function: noise has to be keyed by a PassContext opened inside. Example:
//
//   Tensor x = rand({3, 4}, {.seed = 1, .dtype = DType::f64});
//   GradcheckResult result = gradcheck([](const Tensors& in) { return gelu(in[0]); }, {x});
//   if (!result.passed) fmt::print("{}\n", result.message);
GradcheckResult gradcheck(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs,
                          const GradcheckOptions& options = {});

}  // namespace tandem
