#include "tests/cuda/compare.h"

#include <doctest/doctest.h>

#include "autograd/noise.h"
#include "autograd/tensor_impl.h"
#include "ops/ops.h"

namespace tandem::testing {
namespace {

// Numbers of bf16 whose bits differ. Sums in another order round to another neighbour now and then, while a
// rounding that is wrong, or left out, does so for a good part.
int64_t rounded_otherwise(const Tensor& a, const Tensor& b) {
  const auto x = a.to(DType::f32).to_vector<float>(), y = b.to(DType::f32).to_vector<float>();
  int64_t count = 0;
  for (size_t i = 0; i < x.size(); ++i) count += x[i] != y[i] && (x[i] == x[i] || y[i] == y[i]);
  return count;
}

void check_close(const char* what, const Tensor& there, const Tensor& expected, double tolerance,
                 bool same_roundings) {
  CHECK(there.device() == device());
  const Tensor result = there.to(kCpu);
  INFO(std::string(what), " ", std::string(describe(expected)));
  if (tolerance == 0) {
    CHECK(same_bits(result, expected));
    return;
  }
  const Closeness c = close(result, expected, tolerance);
  CHECK_MESSAGE(c.close, c.message);
  if (same_roundings && expected.dtype() == DType::bf16)
    CHECK(rounded_otherwise(result, expected) <= 2 + expected.numel() / 50);
}

double or_usual(double tolerance, DType dtype) {
  if (tolerance != kUsual) return tolerance;
  return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 5e-6 : 2e-2;
}

}  // namespace

Tensors leaves_on(Device where, const Tensors& inputs, bool gradients) {
  Tensors leaves;
  for (const Tensor& x : inputs) {
    leaves.push_back(x.defined() ? x.detach().to(where).clone() : x);
    if (gradients && x.defined() && is_floating(x.dtype())) leaves.back().requires_grad_();
  }
  return leaves;
}

void agree(const Tensors& inputs, const Function& f, const Comparison& comparison) {
  const Tensors host = leaves_on(kCpu, inputs, comparison.gradients);
  const Tensor expected = f(host);
  const double tolerance = or_usual(comparison.tolerance, expected.dtype()),
               gradient_tolerance = or_usual(comparison.gradient_tolerance, expected.dtype());
  const bool differentiable = expected.requires_grad();
  const Tensor v = differentiable ? cotangent_like(expected, 8) : Tensor();
  if (differentiable) expected.backward(v);
  for (const bool off : {true, false}) {
    if (off && !comparison.misaligned) continue;
    INFO((off ? "misaligned" : "aligned"));
    Tensors there = leaves_on(device(), inputs, comparison.gradients);
    for (Tensor& x : there) {
      if (!off || !x.defined()) continue;
      const bool leaf = x.requires_grad();
      x = misaligned(x);
      if (leaf) x.requires_grad_();
    }
    const Tensor y = f(there);
    check_close("result", y, expected, tolerance, comparison.same_roundings);
    if (!differentiable) continue;
    y.backward(v.to(device()));
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!host[i].defined()) continue;
      INFO("input ", i);
      REQUIRE(there[i].grad().defined() == host[i].grad().defined());
      if (!host[i].grad().defined()) continue;
      check_close("gradient", there[i].grad(), host[i].grad(), gradient_tolerance, comparison.same_roundings);
    }
  }
}

Tensor misaligned(const Tensor& x) {
  const Tensor memory = empty({x.numel() * x.passes() + 1}, {x.dtype(), device()});
  const Tensor target = make_view(memory, x.shape(), contiguous_strides(x.shape()), 1, x.passes(), x.numel());
  return target.copy_(x.detach().to(device()));
}

Tensor random_values(const Shape& shape, DType dtype, uint64_t seed) {
  std::vector<double> values(shape.numel());
  fill_normal(noise_key(seed, 0, 0, 0, Purpose::init), 0, is_floating(dtype) ? 1 : 5, values.data(),
              shape.numel());
  const Tensor x = from_values(values, shape);
  if (dtype == DType::boolean) return gt(x, 0);
  return dtype == DType::u8 ? abs(x).to(DType::i32).to(dtype) : x.to(dtype);
}

Tensor random_index(const Shape& shape, int64_t size, uint64_t seed) {
  std::vector<double> values(shape.numel());
  fill_uniform(noise_key(seed, 0, 0, 0, Purpose::init), 0, static_cast<double>(size), values.data(),
               shape.numel());
  std::vector<int64_t> index(values.begin(), values.end());
  return from_values(index, shape);
}

}  // namespace tandem::testing
