// The gradient checker checked: derivative rules with a mistake must fail, and the right ones beside them
// pass.
#include <doctest/doctest.h>

#include <limits>

#include "autograd/engine.h"
#include "autograd/op.h"
#include "autograd/op_checks.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/matmul.h"
#include "ops/pad.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/views.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

using Forward = std::function<Tensor(const Tensors& inputs)>;
using Vjp = std::function<Tensors(const Tensor& g, const Tensors& inputs)>;

// An op of any forward with any derivative rule.
struct Custom final : Op {
  Forward f;
  Vjp rule;
  size_t count = 0;
  Custom(const Forward& f, const Vjp& rule) : f(f), rule(rule) {}
  const char* name() const override { return "custom"; }
  Tensor forward(const Tensors& in) override {
    count = in.size();
    for (const Tensor& x : in) save(x);
    return f(in);
  }
  Tensors vjp(const Tensor& g) override {
    Tensors inputs;
    for (size_t i = 0; i < count; ++i) inputs.push_back(saved(i));
    return rule(g, inputs);
  }
};

Function custom(const Forward& f, const Vjp& rule) {
  return [=](const Tensors& in) { return apply<Custom>(in, f, rule); };
}

Tensor normal64(const Shape& shape, uint64_t seed = 1) {
  return SampleMaker(seed, DType::f64, kCpu).normal(shape);
}

// `wrong` must be refused whatever directions are drawn, with a report; `right` must pass.
void check_caught(const Forward& f, const Vjp& right, const Vjp& wrong, const Tensors& inputs) {
  for (uint64_t seed : {1, 2, 3}) {
    const GradcheckOptions options{.seed = seed};
    const GradcheckResult good = gradcheck(custom(f, right), inputs, options);
    CHECK_MESSAGE(good.passed, "the right rule: ", good.message);
    const GradcheckResult bad = gradcheck(custom(f, wrong), inputs, options);
    CHECK_FALSE(bad.passed);
    CHECK_FALSE(bad.error <= options.tolerance);
    CHECK(bad.message.find("worst Jacobian entry") != std::string::npos);
  }
}

Tensor softmax_rule(const Tensor& g, const Tensor& y) { return y * (g - sum(g * y, {-1}, true)); }

}  // namespace

TEST_CASE("mutant: a derivative scaled by 1.01, and by 1.00001") {
  const Forward f = [](const Tensors& in) { return exp(in[0]); };
  const Vjp right = [](const Tensor& g, const Tensors& in) { return Tensors{g * exp(in[0])}; };
  for (double factor : {1.01, 1.00001}) {
    check_caught(f, right,
                 [=](const Tensor& g, const Tensors& in) { return Tensors{g * exp(in[0]) * factor}; },
                 {normal64({3, 4})});
  }
}

TEST_CASE("mutant: a dropped term of a product rule") {
  check_caught(
      [](const Tensors& in) { return in[0] * sin(in[0]); },
      [](const Tensor& g, const Tensors& in) { return Tensors{g * (sin(in[0]) + in[0] * cos(in[0]))}; },
      [](const Tensor& g, const Tensors& in) { return Tensors{g * in[0] * cos(in[0])}; }, {normal64({5})});
}

TEST_CASE("mutant: a swapped sign") {
  check_caught([](const Tensors& in) { return in[0] - in[1]; },
               [](const Tensor& g, const Tensors&) {
                 return Tensors{g, -g};
               },
               [](const Tensor& g, const Tensors&) {
                 return Tensors{g, g};
               },
               {normal64({3}), normal64({3}, 2)});
}

TEST_CASE("mutant: the gradients of two inputs exchanged") {
  check_caught([](const Tensors& in) { return in[0] * in[1]; },
               [](const Tensor& g, const Tensors& in) {
                 return Tensors{g * in[1], g * in[0]};
               },
               [](const Tensor& g, const Tensors& in) {
                 return Tensors{g * in[0], g * in[1]};
               },
               {normal64({3}), normal64({3}, 2)});
}

TEST_CASE("mutant: softmax without the term of its row") {
  check_caught(
      [](const Tensors& in) { return softmax(in[0], -1); },
      [](const Tensor& g, const Tensors& in) { return Tensors{softmax_rule(g, softmax(in[0], -1))}; },
      [](const Tensor& g, const Tensors& in) { return Tensors{g * softmax(in[0], -1)}; }, {normal64({3, 4})});
}

TEST_CASE("mutant: a softmax that a cotangent of ones cannot tell from the right one") {
  const Forward f = [](const Tensors& in) { return softmax(in[0], -1); };
  const Vjp right = [](const Tensor& g, const Tensors& in) {
    return Tensors{softmax_rule(g, softmax(in[0], -1))};
  };
  const Vjp wrong = [](const Tensor& g, const Tensors& in) {
    return Tensors{softmax(in[0], -1) * (g - mean(g, {-1}, true))};
  };
  const Tensor x = normal64({3, 4});
  for (const Vjp& rule : {right, wrong}) {
    const Tensor leaf = x.clone().requires_grad_();
    custom(f, rule)({leaf}).backward(ones({3, 4}, {DType::f64}));
    for (double g : leaf.grad().to_vector<double>()) CHECK(std::abs(g) < 1e-15);  // both vanish
  }
  check_caught(f, right, wrong, {x});
}

TEST_CASE("mutant: the gradient of only one use of x in f(x, x)") {
  const Forward product = [](const Tensors& in) { return in[0] * in[1]; };
  const Vjp both = [](const Tensor& g, const Tensors& in) { return Tensors{g * in[1], g * in[0]}; };
  const Vjp first = [](const Tensor& g, const Tensors& in) { return Tensors{g * in[1], Tensor()}; };
  auto squared = [&](const Vjp& rule) {
    return [f = custom(product, rule)](const Tensors& in) { return f({in[0], in[0]}); };
  };
  CHECK(gradcheck(squared(both), {normal64({4})}).passed);
  CHECK_FALSE(gradcheck(squared(first), {normal64({4})}).passed);
}

TEST_CASE("mutant: a broadcast input that gets the mean, or the first, of what must be summed") {
  const Forward f = [](const Tensors& in) { return in[0] + in[1]; };
  const Vjp right = [](const Tensor& g, const Tensors&) { return Tensors{g, sum(g, {0})}; };
  const Tensors inputs{normal64({3, 4}), normal64({4}, 2)};
  check_caught(
      f, right,
      [](const Tensor& g, const Tensors&) {
        return Tensors{g, mean(g, {0})};
      },
      inputs);
  check_caught(
      f, right,
      [](const Tensor& g, const Tensors&) {
        return Tensors{g, g[0]};
      },
      inputs);
}

TEST_CASE("mutant: passes that get each other's gradient, which one pass does not show") {
  const Forward f = [](const Tensors& in) { return in[0] * in[1]; };
  const Vjp right = [](const Tensor& g, const Tensors& in) { return Tensors{g * in[1], g * in[0]}; };
  const Vjp wrong = [](const Tensor& g, const Tensors& in) {
    Tensors passes;
    for (int i = 0; i < g.passes(); ++i) passes.push_back(g.pass(0));
    const Tensor first = stack_passes(passes);
    return Tensors{first * in[1], first * in[0]};
  };
  const Tensor x = normal64({4}), y = normal64({4}, 2);
  CHECK(gradcheck(custom(f, wrong), {x, y}).passed);
  check_caught(f, right, wrong, {several_passes(x, 3, 5), y});
}

TEST_CASE("mutant: a transposed gradient of a square matrix") {
  check_caught([](const Tensors& in) { return matmul(in[0], in[1]); },
               [](const Tensor& g, const Tensors& in) {
                 return Tensors{matmul(g, in[1].t()), matmul(in[0].t(), g)};
               },
               [](const Tensor& g, const Tensors& in) {
                 return Tensors{matmul(in[1], g.t()), matmul(in[0].t(), g)};
               },
               {normal64({3, 3}), normal64({3, 3}, 2)});
}

TEST_CASE("mutant: one element forgotten, which the report names") {
  const Forward f = [](const Tensors& in) { return square(in[0]); };
  const Vjp right = [](const Tensor& g, const Tensors& in) { return Tensors{g * in[0] * 2}; };
  const Vjp wrong = [](const Tensor& g, const Tensors& in) {
    return Tensors{pad(slice(g * in[0] * 2, 0, 0, 8), {0, 1})};
  };
  check_caught(f, right, wrong, {normal64({9})});
  const std::string message = gradcheck(custom(f, wrong), {normal64({9})}).message;
  CHECK_MESSAGE(message.find("d output[8] / d input[8]") != std::string::npos, message);
}

TEST_CASE("mutant: cotangents handed back one place off") {
  check_caught([](const Tensors& in) { return flip(in[0], {0}); },
               [](const Tensor& g, const Tensors&) { return Tensors{flip(g, {0})}; },
               [](const Tensor& g, const Tensors&) { return Tensors{roll(flip(g, {0}), {1}, {0})}; },
               {normal64({6})});
}

TEST_CASE("mutant: relu that lets every cotangent through") {
  check_caught([](const Tensors& in) { return relu(in[0]); },
               [](const Tensor& g, const Tensors& in) { return Tensors{where(gt(in[0], 0), g, g * 0)}; },
               [](const Tensor& g, const Tensors&) { return Tensors{g}; },
               {SampleMaker(1, DType::f64, kCpu).away_from_zero({3, 4})});
}

TEST_CASE("mutant: a mean that forgets to divide") {
  check_caught([](const Tensors& in) { return mean(in[0], {1}, true); },
               [](const Tensor& g, const Tensors&) { return Tensors{g * 0.25}; },
               [](const Tensor& g, const Tensors&) { return Tensors{g}; }, {normal64({3, 4})});
}

TEST_CASE("mutant: a derivative through bf16, and a forward through f32") {
  const Forward f = [](const Tensors& in) { return square(in[0]); };
  const Vjp right = [](const Tensor& g, const Tensors& in) { return Tensors{g * in[0] * 2}; };
  const Vjp coarse = [](const Tensor& g, const Tensors& in) {
    return Tensors{(g.to(DType::bf16) * in[0].to(DType::bf16) * 2).to(DType::f64)};
  };
  const Tensors inputs{normal64({3, 4})};
  check_caught(f, right, coarse, inputs);
  const Forward narrow = [](const Tensors& in) { return square(in[0].to(DType::f32)).to(DType::f64); };
  CHECK_FALSE(gradcheck(custom(narrow, right), inputs).passed);
}

TEST_CASE("mutant: one entry that is wrong in f32 alone, which the report names") {
  OpInfo op;
  op.name = "custom";
  op.cases = [](OpCases& c) {
    c.sample("3x4", {c.normal({3, 4})}, [](const Tensors& in) {
      Tensor spike = zeros({3, 4}, {in[0].dtype()});
      if (in[0].dtype() == DType::f32) spike.select(0, 1).select(0, 2).fill_(5);
      return in[0] + spike;
    });
  };
  const OpCheck check = check_precision(op, DType::f32, kCpu);
  REQUIRE(check.failures.size() == 1);
  const std::string& failure = check.failures[0];
  CHECK_MESSAGE(failure.starts_with("sample '3x4': output: relative error "), failure);
  CHECK_MESSAGE(failure.find(", worst at [1,2]: ") != std::string::npos, failure);
  CHECK(check_precision(op, DType::bf16, kCpu).passed());
}

TEST_CASE("mutant: a derivative that is NaN") {
  check_caught(
      [](const Tensors& in) { return square(in[0]); },
      [](const Tensor& g, const Tensors& in) { return Tensors{g * in[0] * 2}; },
      [](const Tensor& g, const Tensors&) { return Tensors{g * std::numeric_limits<double>::quiet_NaN()}; },
      {normal64({3})});
}

TEST_CASE("mutant: a right first derivative whose own derivative misses a term") {
  const Forward cube = [](const Tensors& in) { return in[0] * square(in[0]); };
  const Forward gradient = [](const Tensors& in) { return in[0] * square(in[1]) * 3; };  // g, x -> 3 g x^2
  const Vjp whole = [](const Tensor& c, const Tensors& in) {
    return Tensors{c * square(in[1]) * 3, c * in[0] * in[1] * 6};
  };
  const Vjp part = [](const Tensor& c, const Tensors& in) {
    return Tensors{c * square(in[1]) * 3, Tensor()};
  };
  auto with = [&](const Vjp& second) {
    return custom(cube, [=](const Tensor& g, const Tensors& in) {
      return Tensors{custom(gradient, second)({g, in[0]})};
    });
  };
  const Tensors inputs{normal64({4})};
  CHECK(gradcheck(with(whole), inputs, {.second_order = true}).passed);
  CHECK(gradcheck(with(part), inputs).passed);  // nothing is wrong to first order
  const GradcheckResult second = gradcheck(with(part), inputs, {.second_order = true});
  CHECK_FALSE(second.passed);
  CHECK(second.message.find("second order: ") == 0);
}
