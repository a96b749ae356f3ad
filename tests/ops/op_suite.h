// The suite that every registered op goes through; its cases are in test_op_suite.cpp.
#pragma once

#include <string>

#include "autograd/gradcheck.h"
#include "autograd/pass_context.h"
#include "autograd/registry.h"

namespace tandem::testing {

// ‖a − b‖ ≤ tolerance · max(‖b‖, floor), over all passes; the message says how far apart they are otherwise.
struct Closeness {
  bool close;
  std::string message;
};
Closeness close(const Tensor& a, const Tensor& b, double tolerance, double floor = 1e-3);

// True when every bit is equal (NaNs included).
bool same_bits(const Tensor& a, const Tensor& b);

Samples samples_of(const OpInfo& op, DType dtype = DType::f64, uint64_t seed = 7);

// What the registration lacks: "" or a message.
std::string registration_defects(const OpInfo& op);

// x with the same values but no dense dimension.
Tensor strided_copy(const Tensor& x);
// m passes near x, each different.
Tensor several_passes(const Tensor& x, int m, uint64_t seed);
// Normal numbers in the shape and passes of x: a cotangent.
Tensor cotangent_like(const Tensor& x, uint64_t seed);

}  // namespace tandem::testing
