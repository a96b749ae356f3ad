// A function on the device against the same on the CPU, with inputs as they are made: aligned, of any passes,
// or undefined (compare.h looks at misaligned ones).
#pragma once

#include <doctest/doctest.h>

#include <cmath>

#include "tests/device.h"
#include "tests/ops/op_suite.h"

namespace tandem::testing {

inline Tensors on_device(const Tensors& inputs, Device where) {
  Tensors result;
  for (const Tensor& x : inputs) {
    result.push_back(!x.defined() ? x : x.detach().to(where).clone());
    if (x.defined() && is_floating(x.dtype())) result.back().requires_grad_();
  }
  return result;
}

inline double usual_tolerance(DType dtype) {
  return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 5e-6 : 2e-2;
}

// f(inputs) and the gradients of all floating inputs for a random cotangent.
inline void check_on_device(const Function& f, const Tensors& inputs, double tolerance = 0) {
  const Tensors host = on_device(inputs, kCpu), there = on_device(inputs, device());
  const Tensor expected = f(host), y = f(there);
  if (tolerance == 0) tolerance = usual_tolerance(expected.dtype());
  CHECK(y.device() == device());
  CHECK(y.passes() == expected.passes());
  const Closeness forward = close(y.to(kCpu), expected, tolerance);
  CHECK_MESSAGE(forward.close, forward.message);
  const Tensor v = cotangent_like(expected, 8);
  expected.backward(v);
  y.backward(v.to(device()));
  for (size_t i = 0; i < host.size(); ++i) {
    if (!host[i].defined() || !is_floating(host[i].dtype())) continue;
    REQUIRE(host[i].grad().defined() == there[i].grad().defined());
    if (!host[i].grad().defined()) continue;
    const Closeness c = close(there[i].grad().to(kCpu), host[i].grad(), tolerance);
    CHECK_MESSAGE(c.close, "gradient of input ", i, ": ", c.message);
  }
}

inline Tensor random_tensor(const Shape& shape, DType dtype, uint64_t seed, int passes = 1) {
  return cotangent_like(empty(shape, {dtype}, passes), seed);
}

}  // namespace tandem::testing
