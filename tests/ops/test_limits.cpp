// Infinity, nothing, and equal values: the limit, in value, first and second order; and NaN in a hidden place
// stays there.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "autograd/engine.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "ops/rdrop/rdrop.h"

using namespace tandem;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Tensor leaf(const Numbers& values, const Shape& shape) {
  return tensor(values, shape).requires_grad_();
}

// Whether x is `wanted` to a relative tolerance; infinities are equal to themselves only.
bool near(const Tensor& x, const std::vector<double>& wanted, double tolerance = 1e-5) {
  const auto values = x.to_vector<double>();
  if (values.size() != wanted.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (values[i] == wanted[i]) continue;
    if (!(std::abs(values[i] - wanted[i]) <= tolerance * std::max(1e-30, std::abs(wanted[i])))) return false;
  }
  return true;
}
bool finite(const Tensor& x) {
  for (double value : x.to_vector<double>())
    if (!std::isfinite(value)) return false;
  return true;
}

// The first and second derivatives of f(x...).sum(), the second along ones, are finite.
void check_derivatives(const Function& f, const Tensors& inputs) {
  const Tensors first = grad(sum(f(inputs)), inputs, {}, {.create_graph = true});
  Tensor total;
  for (const Tensor& g : first) {
    CHECK(finite(g));
    total = total.defined() ? total + sum(g) : sum(g);
  }
  if (!total.requires_grad()) return;
  for (const Tensor& h : grad(total, inputs)) CHECK(finite(h));
}

}  // namespace

TEST_CASE("pointwise functions at infinity have their limits") {
  struct Case {
    const char* name;
    Function f;
    double low, high;  // limits of the value; NaN: not looked at
    double slope_low, slope_high;
  };
  const auto of = [](Tensor (*f)(const Tensor&)) { return [f](const Tensors& in) { return f(in[0]); }; };
  const Case cases[] = {
      {"relu", of(relu), 0, kInf, 0, 1},
      {"silu", of(silu), 0, kInf, 0, 1},
      {"gelu", [](const Tensors& in) { return gelu(in[0]); }, 0, kInf, 0, 1},
      {"gelu_tanh", [](const Tensors& in) { return gelu(in[0], Approximate::tanh); }, 0, kInf, 0, 1},
      {"tanh", of(tanh), -1, 1, 0, 0},
      {"sigmoid", of(sigmoid), 0, 1, 0, 0},
      {"softplus", of(softplus), 0, kInf, 0, 1},
      {"elu", [](const Tensors& in) { return elu(in[0], 0.5); }, -0.5, kInf, 0, 1},
      {"leaky_relu", [](const Tensors& in) { return leaky_relu(in[0], 0.5); }, -kInf, kInf, 0.5, 1},
      {"leaky_relu of slope 0", [](const Tensors& in) { return leaky_relu(in[0], 0); }, 0, kInf, 0, 1},
      {"erf", of(erf), -1, 1, 0, 0},
      {"exp", [](const Tensors& in) { return exp(-abs(in[0])); }, 0, 0, 0, 0},
      {"expm1", [](const Tensors& in) { return expm1(-abs(in[0])); }, -1, -1, 0, 0},
      {"reciprocal", of(reciprocal), 0, 0, 0, 0},
      {"log", [](const Tensors& in) { return log(abs(in[0])); }, kInf, kInf, 0, 0},
      {"log1p", [](const Tensors& in) { return log1p(abs(in[0])); }, kInf, kInf, 0, 0},
      {"sqrt", [](const Tensors& in) { return sqrt(abs(in[0])); }, kInf, kInf, 0, 0},
      {"rsqrt", [](const Tensors& in) { return rsqrt(abs(in[0])); }, 0, 0, 0, 0},
  };
  for (const Case& c : cases) {
    for (DType dtype : {DType::bf16, DType::f32, DType::f64}) {
      CAPTURE(c.name);
      CAPTURE(name_of(dtype));
      const Tensor x = tensor({-kInf, kInf}, {2}).to(dtype).requires_grad_();
      const Tensor y = c.f({x}), slope = grad(sum(y), {x})[0];
      CHECK(near(y, {c.low, c.high}));
      CHECK(near(slope, {c.slope_low, c.slope_high}));
      const Tensor ends = tensor({-kInf, -1e30f, -1e20f, -300, 300, 1e20f, 1e30f, kInf}, {8});
      check_derivatives(c.f, {ends.to(dtype).requires_grad_()});
    }
  }
}

TEST_CASE("softmax, its logarithm and logsumexp of rows that hold nothing but -inf") {
  for (int64_t n : {3, 40, 5000}) {
    for (DType dtype : {DType::bf16, DType::f32, DType::f64}) {
      CAPTURE(n);
      CAPTURE(name_of(dtype));
      // The second row is like others.
      const Tensor x = cat({full({1, n}, -kInf, {dtype}), zeros({1, n}, {dtype})}).requires_grad_();
      const double p = 1.0 / static_cast<double>(n);
      CHECK(near(softmax(x, -1).slice(1, 0, 1), {0, p}, 1e-2));
      CHECK(near(log_softmax(x, -1).slice(1, 0, 1), {-kInf, std::log(p)}, 1e-2));
      CHECK(near(logsumexp(x, {-1}), {-kInf, -std::log(p)}, 1e-2));
      check_derivatives([](const Tensors& in) { return square(softmax(in[0], -1)); }, {x});
      check_derivatives([](const Tensors& in) { return logsumexp(in[0], {-1}); }, {x});
      check_derivatives(
          [](const Tensors& in) {
            const Tensor y = log_softmax(in[0], -1);
            return masked_fill(y, eq(y, -kInf), 0);
          },
          {x});
    }
  }
  CHECK(logsumexp(zeros({2, 0}), {1}).to_vector<double>() == std::vector<double>(2, -kInf));
  CHECK(sum(zeros({2, 0}), {1}).to_vector<double>() == std::vector<double>(2, 0));
}

TEST_CASE("kl_div is 0, with derivatives of 0, where the target's probability is 0") {
  const Tensor p = log_softmax(tensor({-kInf, 0, 1}, {1, 3}), -1);
  const Tensor q = log_softmax(tensor({-kInf, 1, 0}, {1, 3}), -1);
  const double a = 1 / (1 + std::exp(1.0)), b = 1 - a;  // the softmax of {0, 1}
  const double kl = b * std::log(b / a) + a * std::log(a / b);
  CHECK(near(kl_div(p, q, Reduction::sum, true), {kl}));
  CHECK(near(kl_div(p, exp(q), Reduction::sum), {kl}));
  // log t = -inf, or so low that t is 0, beside a finite and an infinite log p.
  const Tensor log_t = tensor({-kInf, -kInf, -1000, 0});
  const Tensor log_p = tensor({-1, -kInf, -kInf, -2});
  CHECK(near(kl_div(log_p, log_t, Reduction::none, true), {0, 0, 0, 2}));
  CHECK(near(kl_div(log_p, exp(log_t), Reduction::none), {0, 0, 0, 2}));
  for (bool log_target : {false, true}) {
    const Tensor target = log_target ? log_t : exp(log_t);
    check_derivatives([=](const Tensors& in) { return kl_div(in[0], in[1], Reduction::mean, log_target); },
                      {log_p.clone().requires_grad_(), target.clone().requires_grad_()});
  }
  // What is there but NaN is no longer nothing.
  CHECK(std::isnan(kl_div(tensor({-1, kNaN}), tensor({0.5f, 0.5f})).item()));
  CHECK(std::isnan(kl_div(tensor({-1, -1}), tensor({0.5f, kNaN}), Reduction::sum, true).item()));
}

TEST_CASE("R-Drop by hand over a vocabulary with a masked class has the fused loss's gradients") {
  for (bool log_target : {false, true}) {
    const Tensor x = leaf({-kInf, 0.3f, 1}, {1, 3}), y = leaf({-kInf, 0.9f, 0.1f}, {1, 3});
    const auto target = [=](const Tensor& z) { return log_target ? log_softmax(z, -1) : softmax(z, -1); };
    (kl_div(log_softmax(x, -1), target(y), Reduction::sum, log_target) +
     kl_div(log_softmax(y, -1), target(x), Reduction::sum, log_target))
        .backward();
    const Tensor both = stack_passes({x.detach(), y.detach()}).requires_grad_();
    const Tensor label = from_values(std::vector<int64_t>{1}, {1});
    const auto loss = [&](double alpha) { return rdrop_cross_entropy(both, label, {.alpha = alpha}).loss; };
    (loss(4) - loss(0)).backward();  // alpha / 4 of the sum of both KLs
    CHECK(near(x.grad(), both.grad().pass(0).to_vector<double>(), 1e-4));
    CHECK(near(y.grad(), both.grad().pass(1).to_vector<double>(), 1e-4));
  }
}

TEST_CASE("binary cross-entropy from logits is exact at both ends") {
  const Tensor x = tensor({20, 40, -20, 10000, -10000, kInf, -kInf, 0});
  const Tensor t = tensor({1, 1, 0, 0, 1, 1, 0, 0.5f});
  const Tensor loss = binary_cross_entropy_with_logits(x, t, Reduction::none);
  CHECK(near(loss, {2.0611536e-9, 4.2483542e-18, 2.0611536e-9, 1e4, 1e4, 0, 0, std::log(2)}));
  CHECK(near(binary_cross_entropy_with_logits(-x, 1 - t, Reduction::none), loss.to_vector<double>(), 0));
  const Tensor z = x.clone().requires_grad_();
  binary_cross_entropy_with_logits(z, t, Reduction::sum).backward();
  CHECK(near(z.grad(), {-2.0611536e-9, -4.2483542e-18, 2.0611536e-9, 1, -1, 0, 0, 0}));
  check_derivatives([&](const Tensors& in) { return binary_cross_entropy_with_logits(in[0], t); }, {z});
  CHECK(binary_cross_entropy_with_logits(tensor({kInf}), tensor({0})).item() == kInf);
}

TEST_CASE("deviations of equal values have derivative 0") {
  const Tensor x = full({2, 4}, 3).requires_grad_();
  for (const Shape& dims : {Shape{}, Shape{0}, Shape{1}}) {
    const auto f = [&](const Tensors& in) { return stddev(in[0], dims); };
    CHECK(near(grad(sum(f({x})), {x})[0], std::vector<double>(8, 0)));
    check_derivatives(f, {x});
  }
  // Beside values that differ, these keep theirs.
  const Tensor y = leaf({3, 3, 1, 2}, {2, 2});
  CHECK(near(grad(sum(stddev(y, {1})), {y})[0], {0, 0, -std::sqrt(0.5), std::sqrt(0.5)}));
  CHECK(std::isnan(stddev(ones({1})).item()));  // of one value there is none
  const auto norms = {
      Function([](const Tensors& in) { return layer_norm(in[0], {4}); }),
      Function([](const Tensors& in) { return rms_norm(in[0] - 3.0); }),
      Function([](const Tensors& in) { return batch_norm(in[0], {}, {}, {}, true); }),
      Function([](const Tensors& in) { return group_norm(in[0], 2); }),
  };
  for (const Function& norm : norms)
    check_derivatives([&](const Tensors& in) { return square(norm(in)); }, {x});
}

TEST_CASE("NaN in the logits of units that are ignored stays there") {
  for (int place : {0, 1, 2}) {  // the padding stands in front, in the middle, at the end
    std::vector<float> values{0.1f, 0.7f, -0.2f, 0.3f, 0.5f, 0.9f, 1, 2, 3};
    std::vector<int64_t> labels{2, 1, 0};
    for (int c = 0; c < 3; ++c) values[3 * place + c] = c == 1 ? kInf : kNaN;
    labels[place] = -100;
    const Tensor target = from_values(labels, {3}), x = from_values(values, {3, 3}).requires_grad_();
    for (Reduction reduction : {Reduction::none, Reduction::sum, Reduction::mean}) {
      for (double smoothing : {0.0, 0.2}) {
        CAPTURE(place);
        CAPTURE(smoothing);
        const auto f = [&](const Tensors& in) {
          return cross_entropy(in[0], target, {.label_smoothing = smoothing, .reduction = reduction});
        };
        CHECK(finite(f({x})));
        check_derivatives(f, {x});
      }
      const auto nll = [&](const Tensors& in) { return nll_loss(in[0], target, reduction); };
      check_derivatives(nll, {x});
    }
  }
}

TEST_CASE("NaN in keys and values that are hidden stays out of attention") {
  const int64_t n = 40;
  const auto make = [&](uint64_t seed) {
    std::vector<float> values(2 * n * 3);
    fill_normal(noise_key(seed, 0, 0, 0, Purpose::init), 0, 1, values.data(), values.size());
    return from_values(values, {1, 2, n, 3});
  };
  for (int64_t place : {0, 1, 20, 38, 39}) {
    for (bool causal : {false, true}) {
      CAPTURE(place);
      CAPTURE(causal);
      const Tensor hidden = eq(arange(0, n, 1, {DType::i64}), double(place)).unsqueeze(0);
      const Tensor column = hidden.unsqueeze(1).unsqueeze(-1);
      const auto outcome = [&](float inside) {
        const Tensor q = make(1).requires_grad_(), k = masked_fill(make(2), column, inside).requires_grad_();
        const Tensor v = masked_fill(make(3), column, inside).requires_grad_();
        const Tensor y = attention(q, k, v, {.causal = causal}, hidden);
        square(y).sum().backward();
        return Tensors{y, q.grad(), k.grad(), v.grad()};
      };
      const Tensors clean = outcome(0.5f);
      for (float inside : {kNaN, kInf}) {
        const Tensors got = outcome(inside);
        for (size_t i = 0; i < got.size(); ++i)
          CHECK(got[i].to_vector<float>() == clean[i].to_vector<float>());
      }
      if (!causal) continue;
      // Without a mask, a position is hidden from the queries in front of it.
      const auto rows_before = [&](float inside) {
        const Tensor y = attention(make(1), masked_fill(make(2), column, inside),
                                   masked_fill(make(3), column, inside), {.causal = true});
        return y.slice(2, 0, place).contiguous().to_vector<float>();
      };
      CHECK(rows_before(kNaN) == rows_before(0.5f));
    }
  }
}

TEST_CASE("what dropout drops is 0, whatever it was") {
  const PassContext context({.seed = 3});
  for (float inside : {kNaN, kInf}) {
    const Tensor y = dropout(full({100}, inside), 0.5);
    int zeros = 0;
    for (float value : y.to_vector<float>()) zeros += value == 0;
    CHECK(zeros > 20);
  }
}
