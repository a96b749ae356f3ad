// What a registered op must hold on its samples: the checks that `tandem gradcheck` prints and the op suite
// of the tests asserts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/registry.h"

namespace tandem {

// The result of one check.
struct OpCheck {
  DType dtype;                             // that was checked
  std::string what;                        // "gradient x2", "against f64"
  double worst = 0, allowed = 0;           // relative error: the largest among all samples, and its limit
  std::vector<std::string> failures = {};  // which sample, and how

  // Whether no sample failed.
  bool passed() const { return failures.empty(); }
};

// gradcheck() in f64: of the gradient's gradient, too, where the op declares a second order.
OpCheck check_gradients(const OpInfo& op, Device device);

// Values and gradients in `dtype` beside those of the very same numbers in f64 on the CPU; errors are
// relative to their norm. In f64 the device is checked, otherwise the arithmetic: the op's tolerances hold.
OpCheck check_precision(const OpInfo& op, DType dtype, Device device);

// Reports all checks that apply to the op, each when it is done.
void check_op(const OpInfo& op, Device device, const std::function<void(const OpCheck&)>& report);

}  // namespace tandem
