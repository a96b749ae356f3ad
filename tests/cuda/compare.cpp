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

void check_close(const char* what, const Tensor& there, const Tensor& expected, double tolerance) {
  CHECK(there.device() == device());
  const Tensor result = there.to(kCpu);
  INFO(std::string(what), " ", std::string(describe(expected)));
  if (tolerance == 0) {
    CHECK(same_bits(result, expected));
    return;
  }
  const Closeness c = close(result, expected, tolerance);
  CHECK_MESSAGE(c.close, c.message);
  if (expected.dtype() == DType::bf16)
    CHECK(rounded_otherwise(result, expected) <= 2 + expected.numel() / 50);
}

}  // namespace

void agree(const Tensors& inputs, const Function& f, const Comparison& comparison) {
  Tensors host, there;
  for (const Tensor& x : inputs) {
    host.push_back(x.detach().clone());
    there.push_back(misaligned(x));
    if (!comparison.gradients || !is_floating(x.dtype())) continue;
    host.back().requires_grad_();
    there.back().requires_grad_();
  }
  const Tensor expected = f(host);
  const bool differentiable = expected.requires_grad();
  const Tensor v = differentiable ? cotangent_like(expected, 8) : Tensor();
  if (differentiable) expected.backward(v);
  for (const bool aligned : {false, true}) {
    INFO((aligned ? "aligned" : "misaligned"));
    if (aligned) {
      for (Tensor& x : there) {
        const bool leaf = x.requires_grad();
        x = x.detach().clone();
        if (leaf) x.requires_grad_();
      }
    }
    const Tensor y = f(there);
    check_close("result", y, expected, comparison.tolerance);
    if (!differentiable) continue;
    y.backward(v.to(device()));
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!host[i].grad().defined()) continue;
      check_close("gradient", there[i].grad(), host[i].grad(), comparison.gradient_tolerance);
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
