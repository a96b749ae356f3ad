// The suite that every registered op goes through; its cases are in test_op_suite.cpp.
#pragma once

#include <string>

#include "autograd/gradcheck.h"
#include "autograd/pass_context.h"
#include "autograd/registry.h"
#include "tests/testing.h"

namespace tandem::testing {

Samples samples_of(const OpInfo& op, DType dtype = DType::f64, uint64_t seed = 7);

// What the registration lacks: "" or a message.
std::string registration_defects(const OpInfo& op);

// x with the same values but no dense dimension.
Tensor strided_copy(const Tensor& x);
// m passes near x, each different.
Tensor several_passes(const Tensor& x, int m, uint64_t seed);

}  // namespace tandem::testing
