// A function on the device against the same on the CPU, which other suites check.
#pragma once

#include "autograd/gradcheck.h"
#include "tests/ops/op_suite.h"
#include "tests/testing.h"

namespace tandem::testing {

inline constexpr double kUsual = -1;  // the tolerance of the result's type

struct Comparison {
  double tolerance = 0;  // as in close(); 0 asks for the same bits
  double gradient_tolerance = 0;
  bool gradients = true;
  bool misaligned = true;      // inputs one element behind an aligned address, too
  bool same_roundings = true;  // to bf16, but for a few; not where terms are summed in another order
};
// With inputs as they are alone, for kernels that do not depend on how their memory is aligned.
inline Comparison aligned(double tolerance = kUsual) { return {tolerance, tolerance, true, false, false}; }

// Values of f in both places, and gradients of its floating inputs for a random cotangent. Inputs may have
// passes, or be undefined.
void agree(const Tensors& inputs, const Function& f, const Comparison& comparison);

// Copies of the inputs on a device; the floating ones are leaves where `gradients`.
Tensors leaves_on(Device where, const Tensors& inputs, bool gradients = true);

// The values of x on the device, in memory that begins one element behind an aligned address.
Tensor misaligned(const Tensor& x);

// Normal numbers, or for integers whole numbers, in `dtype` on the CPU.
Tensor random_values(const Shape& shape, DType dtype, uint64_t seed);
// i64 in [0, size).
Tensor random_index(const Shape& shape, int64_t size, uint64_t seed);

}  // namespace tandem::testing
