// What the samples of linear and embedding do not show: mixed precision, the cached copy of a weight, the two
// ways of a forward, padding, indices that differ between passes.
#include <doctest/doctest.h>

#include "autograd/grad_mode.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {
constexpr Activation kActivations[] = {Activation::none, Activation::relu, Activation::gelu,
                                       Activation::gelu_tanh};
}

TEST_CASE("linear: bf16 inputs beside f32 parameters give bf16, and f32 gradients that no bf16 rounded") {
  SampleMaker make(3, DType::f32, kCpu);
  const Tensor x = make.normal({5, 16}).to(DType::bf16).requires_grad_();
  const Tensor w = make.normal({8, 16}).requires_grad_(), b = make.normal({8}).requires_grad_();
  const Tensor y = linear(x, w, b);
  CHECK(y.dtype() == DType::bf16);
  const Tensor v = cotangent_like(y, 2);
  y.backward(v);
  CHECK(x.grad().dtype() == DType::bf16);
  const Tensor wide = v.to(DType::f64), wide_x = x.detach().to(DType::f64);
  CHECK(close(w.grad(), matmul(wide.t(), wide_x), 1e-6).close);
  CHECK(close(b.grad(), wide.sum({0}), 1e-6).close);
}

TEST_CASE("linear: a forward that is recorded gives what one that is not gives, in several passes too") {
  SampleMaker make(4, DType::f64, kCpu);
  for (const Activation activation : kActivations) {
    const Tensor x = several_passes(make.normal({3, 4, 6}), 3, 5);
    const Tensor w = make.normal({5, 6}), b = make.normal({5});
    const Tensor plain = linear(x, w, b, activation);
    const Tensor recorded = linear(x, w.clone().requires_grad_(), b, activation);
    CHECK(recorded.requires_grad());
    const Closeness c = close(recorded.detach(), plain, 1e-14);
    CHECK_MESSAGE(c.close, c.message);
  }
}

TEST_CASE("cached_cast: one copy for all views of a weight, made again after a write") {
  const Tensor w = arange(0, 12).reshape({3, 4});
  const Tensor a = detail::cached_cast(w, DType::bf16), b = detail::cached_cast(w[1], DType::bf16);
  CHECK(b.raw() == a[1].raw());
  CHECK(same_bits(a, w.to(DType::bf16)));
  CHECK(same_bits(detail::cached_cast(w.t(), DType::bf16), w.t().to(DType::bf16)));
  w.add_(w);
  CHECK(same_bits(detail::cached_cast(w, DType::bf16), w.to(DType::bf16)));
  CHECK(detail::cached_cast(w, DType::f32).raw() == w.raw());
  CHECK(same_bits(detail::cached_cast(w, DType::f64), w.to(DType::f64)));
}

TEST_CASE("embedding: the padding row gets no gradient, and its second derivative reads nothing there") {
  SampleMaker make(5, DType::f64, kCpu);
  const Tensor w = make.normal({4, 3}).requires_grad_();
  const Tensor indices = from_values(std::vector<int64_t>{1, 2, 2, 0}, {4});
  const Tensor g = make.normal({4, 3}).requires_grad_();
  embedding(w, indices, 2).backward(g, {.create_graph = true});
  CHECK(same_bits(w.grad()[2].detach(), zeros({3}, {DType::f64})));
  CHECK(same_bits(w.grad()[1].detach(), g[0].detach()));
  w.grad().backward(ones({4, 3}, {DType::f64}));
  const Tensor expected = ones({4, 3}, {DType::f64});
  expected[1].zero_(), expected[2].zero_();
  CHECK(same_bits(g.grad(), expected));
}

TEST_CASE("embedding: repeated indices of all passes are summed into the shared table") {
  SampleMaker make(6, DType::f64, kCpu);
  const Tensor w = make.normal({3, 2}).requires_grad_();
  const Tensor first = from_values(std::vector<int64_t>{0, 2}, {2}),
               second = from_values(std::vector<int64_t>{2, 2}, {2});
  const Tensor y = embedding(w, stack_passes({first, second}));
  CHECK(y.passes() == 2);
  y.backward(ones_like(y));
  const std::vector<double> expected{1, 1, 0, 0, 3, 3};
  CHECK(w.grad().to_vector<double>() == expected);
}
