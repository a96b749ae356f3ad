// What the samples of linear and embedding do not show: mixed precision, the copies of a weight, the two ways
// of a forward, padding, indices that differ between passes.
#include <doctest/doctest.h>

#include <array>

#include "autograd/inference.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "ops/embedding.h"
#include "ops/join.h"
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

TEST_CASE("linear: for inference with packed weights, as without them, after a write to the weight, too") {
  SampleMaker make(6, DType::f32, kCpu);
  for (const auto& [rows, in, out] :
       {std::array<int64_t, 3>{1, 7, 5}, {6, 64, 64}, {13, 33, 130}, {400, 20, 70}}) {
    const Tensor x = make.normal({rows, in}), w = make.normal({out, in}), b = make.normal({out});
    for (const Activation activation : kActivations) {
      for (const bool biased : {false, true}) {
        for (int write = 0; write < 2; ++write) {
          const Tensor bias = biased ? b : Tensor(), plain = linear(x, w, bias, activation);
          const InferenceGuard inference;
          const Tensor y = linear(x, w, bias, activation);
          const Closeness c = close(y, plain, 2e-6);
          CHECK_MESSAGE(c.close, c.message);
          CHECK(
              same_bits(linear(x.slice(0, rows - 1, rows), w, bias, activation), y.slice(0, rows - 1, rows)));
          CHECK(same_bits(linear(x.t().contiguous().t(), w, bias, activation), y));
          w.mul_(-0.5);
        }
      }
    }
  }
}

TEST_CASE("linear: packed weights of views are apart, and none are made where it is not asked for") {
  SampleMaker make(7, DType::f32, kCpu);
  const Tensor x = make.normal({3, 16}), both = make.normal({20, 16}), square = make.normal({16, 16});
  linear(x, both);
  CHECK(both.impl()->storage->packed.empty());
  const Tensor upper = both.slice(0, 0, 10), lower = both.slice(0, 10, 20);
  const Tensor expected = linear(x, both), turned = linear(x, square.t());
  const InferenceGuard inference;
  CHECK(close(cat({linear(x, upper), linear(x, lower)}, 1), expected, 1e-6).close);
  CHECK(both.impl()->storage->packed.size() == 2);
  CHECK(close(linear(x, square.t()), turned, 1e-6).close);
  CHECK(!grad_enabled());
}

TEST_CASE("linear: packed weights give the same bits for any number of threads") {
  SampleMaker make(8, DType::f32, kCpu);
  const Tensor x = make.normal({500, 96}), w = make.normal({300, 96});
  const InferenceGuard inference;
  const int threads = num_threads();
  set_num_threads(1);
  const Tensor one = linear(x, w, {}, Activation::gelu);
  set_num_threads(3);
  CHECK(same_bits(linear(x, w, {}, Activation::gelu), one));
  set_num_threads(threads);
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
