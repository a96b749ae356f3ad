// Gradients that are recorded: in .grad, and of ops whose vjp is that of other ops then.
#include "autograd/engine.h"
#include "ops/joined_linear.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

TEST_CASE("create_graph: each .grad has memory of its own, whoever else has the gradient") {
  const Tensor a = leaf({1, 2}), b = leaf({1, 2}), g = tensor({3, 5});
  (a + b).backward(g, {.create_graph = true});
  square(a).sum().backward();
  CHECK(values(a.grad().detach()) == Values{5, 9});
  CHECK(values(b.grad().detach()) == Values{3, 5});
  CHECK(values(g) == Values{3, 5});
  // One that is one number for all elements is no memory to add to.
  const Tensor x = leaf({1, 2, 3});
  x.sum().backward({}, {.create_graph = true});
  x.sum().backward();
  CHECK(values(x.grad().detach()) == Values{2, 2, 2});
  // It is recorded all the same.
  const Tensor y = leaf({2, 3});
  (y * y * y).sum().backward({}, {.create_graph = true});
  CHECK(values(grad(y.grad().sum(), {y})[0]) == Values{12, 18});
}

TEST_CASE("create_graph: a joined product is its parts, whose weights may be one, or made of each other") {
  const Tensor x = tensor({1, 2}).reshape({1, 2}).requires_grad_();
  int calls = 0;
  const auto gradients = [&](const auto& product) {
    const Tensor w = from_values(Values{0.5, -1, 2, 3}, {2, 2}).to(DType::f32).requires_grad_();
    w.register_hook([&](const Tensor& g) { return ++calls, g * 2.0; });
    calls = 0;
    Values all;
    const auto append = [&](const Tensor& x) {
      for (const double value : values(x.detach())) all.push_back(value);
    };
    const auto add = [&](const Tensor& y) {
      for (const Tensor& each : grad(square(y).sum(), {x, w}, {}, {.create_graph = true})) append(each);
      const Tensor first = grad(square(y).sum(), {x}, {}, {.create_graph = true})[0];
      append(grad(square(first).sum(), {w})[0]);
    };
    add(product(x, {w, w}));                 // one tensor
    add(product(product(x, {w}), {w}));      // upstream of itself
    add(product(x, {w, (w * w).detach()}));  // without a gradient
    add(product(x, {w, product(w, {w})}));   // made of the other
    all.push_back(calls);
    return all;
  };
  const Values joined = gradients([](const Tensor& in, const Tensors& w) { return joined_linear(in, w); });
  const Values apart = gradients([](const Tensor& in, const Tensors& w) {
    Tensors all;
    for (const Tensor& each : w) all.push_back(linear(in, each));
    return cat(all, -1);
  });
  CHECK(joined.size() == apart.size());
  for (size_t i = 0; i < joined.size(); ++i) CHECK(joined[i] == doctest::Approx(apart[i]));
}
