// A vjp that adds to the cotangents that have come to its input before.
#include "autograd/arrived.h"

#include <functional>

#include "autograd/engine.h"
#include "ops/arithmetic.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

// 3 x, whose vjp adds to what has arrived where it may, and counts those times.
struct AddingTriple final : Op {
  int* added;
  explicit AddingTriple(int* added) : added(added) {}
  const char* name() const override { return "adding_triple"; }
  Tensor forward(const Tensors& in) override { return in[0] * 3.0; }
  Tensors vjp(const Tensor& g) override {
    const Tensor sum = arrived(*this, 0);
    if (!sum.defined()) return {g * 3.0};
    ++*added;
    sum.add_(g, 3);
    return {sum};
  }
};

}  // namespace

TEST_CASE("a vjp that adds to what has arrived: where nobody else sees it, and once per cotangent") {
  int added = 0;
  const auto triple = [&](const Tensor& x) { return apply<AddingTriple>({x}, &added); };
  const Tensor x = leaf({1, 2});
  const auto gradient = [&](const std::function<Tensor(const Tensor&)>& f, bool create_graph = false) {
    added = 0;
    const Tensor h = x * 1.0;
    return values(grad(f(h).sum(), {x}, {}, {.create_graph = create_graph})[0].detach());
  };
  // The op that is recorded last gives first.
  CHECK(gradient([&](const Tensor& h) {
          const Tensor y = triple(h);
          return y + h * 2.0;
        }) == Values{5, 5});
  CHECK(added == 1);
  CHECK(gradient([&](const Tensor& h) {
          const Tensor z = h * 2.0;
          return z + triple(h);
        }) == Values{5, 5});
  CHECK(added == 0);  // nothing had come
  CHECK(gradient([&](const Tensor& h) {
          const Tensor a = triple(h), b = triple(h);
          return a + b + h * 2.0;
        }) == Values{8, 8});
  CHECK(added == 2);
  // The cotangent of both sides of a sum is one tensor.
  CHECK(gradient([&](const Tensor& h) {
          const Tensor y = triple(h);
          return (y + h) * 2.0;
        }) == Values{8, 8});
  CHECK(added == 0);
  CHECK(gradient(
            [&](const Tensor& h) {
              const Tensor y = triple(h);
              return y + h * 2.0;
            },
            true) == Values{5, 5});
  CHECK(added == 0);
  // Leaves keep what comes to themselves.
  CHECK(values(grad((triple(x) + x * 2.0).sum(), {x})[0]) == Values{5, 5});
  CHECK(added == 0);
}

// A loss whose cotangent is known to be 1 does not multiply by it.
TEST_CASE("a cotangent that a vjp added to is not known to be 1 any more") {
  const Tensor target = from_values(std::vector<int64_t>{0, 2}, {2});
  const auto gradient = [&](const auto& other) {
    const Tensor logits = normal({2, 3}, 1).requires_grad_();
    const Tensor loss = rdrop_cross_entropy(logits, target).loss.reshape({1});
    (loss + 2.0 * other(loss)).backward();
    return logits.grad();
  };
  const Tensor got = gradient([](const Tensor& x) { return rms_norm(x, {}, 1.0); });
  const Tensor expected = gradient([](const Tensor& x) { return x * rsqrt(square(x) + 1.0); });
  CHECK(close(got, expected, 1e-5).close);
}

TEST_CASE("a vjp adds to one cotangent of 16 bits at most: later sums are wider") {
  int added = 0;
  const Tensor x = ones({2}).to(DType::bf16).requires_grad_(), h = x * 1.0;
  Tensor total = zeros({1});
  std::vector<Tensor> parts;
  for (int i = 0; i < 1000; ++i) parts.push_back(apply<AddingTriple>({h}, &added));
  for (const Tensor& part : parts) total = total + part.to(DType::f32).sum();
  CHECK(values(grad(total, {x})[0]) == Values{3008, 3008});  // 3000, rounded to 8 bits
  CHECK(added == 1);
}
