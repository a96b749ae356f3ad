// A function on the device against the same on the CPU, which other suites check.
#pragma once

#include "tests/device.h"
#include "tests/ops/op_suite.h"

namespace tandem::testing {

// Values and gradients of f in both places, over the inputs' values. Tolerances as in close(); 0 asks for the
// same bits.
struct Comparison {
  double tolerance = 0;
  double gradient_tolerance = 0;
  bool gradients = true;
};
void agree(const Tensors& inputs, const Function& f, const Comparison& comparison);

// The values of x on the device, in memory that begins one element behind an aligned address.
Tensor misaligned(const Tensor& x);

// Normal numbers, or for integers whole numbers, in `dtype` on the CPU.
Tensor random_values(const Shape& shape, DType dtype, uint64_t seed);
// i64 in [0, size).
Tensor random_index(const Shape& shape, int64_t size, uint64_t seed);

}  // namespace tandem::testing
