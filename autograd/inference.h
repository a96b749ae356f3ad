// Whether this thread uses models that stay as they are.
#pragma once

#include "autograd/grad_mode.h"

namespace tandem {

bool inference_enabled();  // true while an InferenceGuard lives

// Nothing is recorded while it lives, and weights are expected to serve many times: products on the CPU keep
// copies of them, in the layout of their kernel, until the weights are written to or freed. Results
// are equal to rounding. torch.inference_mode(), but for the restrictions. Example:
//
//   Tensor x = randn({1, 64}, {.seed = 1}), weight = randn({256, 64}, {.seed = 2});
//   const InferenceGuard inference;
//   for (int i = 0; i < 10; ++i) linear(x, weight);  // packs the weight once
class InferenceGuard {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] InferenceGuard();
  ~InferenceGuard();
  InferenceGuard(const InferenceGuard&) = delete;
  InferenceGuard& operator=(const InferenceGuard&) = delete;

 private:
  NoGradGuard no_grad_;
  bool outer_;
};

}  // namespace tandem
