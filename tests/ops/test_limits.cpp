// Infinity, nothing, and equal values: the limit, in value, first and second
// order; and NaN in a hidden place stays there. All of it on the device that
// the suite runs on.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "autograd/engine.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "ops/rdrop/rdrop.h"
#include "tests/testing.h"

using namespace tandem;
using testing::device, testing::difference;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Tensor numbers(const Numbers& values) { return tensor(values).to(device()); }
Tensor leaf(const Numbers& values, const Shape& shape) {
  return tensor(values, shape).to(device()).requires_grad_();
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

// The first and second derivatives of f(x...).sum(), the second along ones, are
// finite.
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

TEST_CASE("limits: pointwise functions at infinity have their limits") {
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
      const Tensor x = numbers({-kInf, kInf}).to(dtype).requires_grad_();
      const Tensor y = c.f({x}), slope = grad(sum(y), {x})[0];
      CHECK(near(y, {c.low, c.high}));
      CHECK(near(slope, {c.slope_low, c.slope_high}));
      const Tensor ends = numbers({-kInf, -1e30f, -1e20f, -300, 300, 1e20f, 1e30f, kInf});
      check_derivatives(c.f, {ends.to(dtype).requires_grad_()});
    }
  }
}

TEST_CASE(
    "limits: softmax, its logarithm and logsumexp of rows that hold "
    "nothing but -inf") {
  for (int64_t n : {3, 40, 5000}) {
    for (DType dtype : {DType::bf16, DType::f32, DType::f64}) {
      CAPTURE(n);
      CAPTURE(name_of(dtype));
      // The second row is like others.
      const TensorOptions options{dtype, device()};
      const Tensor x = cat({full({1, n}, -kInf, options), zeros({1, n}, options)}).requires_grad_();
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
  const Tensor none = zeros({2, 0}, {DType::f32, device()});
  CHECK(logsumexp(none, {1}).to_vector<double>() == std::vector<double>(2, -kInf));
  CHECK(sum(none, {1}).to_vector<double>() == std::vector<double>(2, 0));
}

TEST_CASE(
    "limits: kl_div is 0, with derivatives of 0, where the target's "
    "probability is 0") {
  const Tensor p = log_softmax(leaf({-kInf, 0, 1}, {1, 3}), -1).detach();
  const Tensor q = log_softmax(leaf({-kInf, 1, 0}, {1, 3}), -1).detach();
  const double a = 1 / (1 + std::exp(1.0)), b = 1 - a;  // the softmax of {0, 1}
  const double kl = b * std::log(b / a) + a * std::log(a / b);
  CHECK(near(kl_div(p, q, Reduction::sum, true), {kl}));
  CHECK(near(kl_div(p, exp(q), Reduction::sum), {kl}));
  // log t = -inf, or so low that t is 0, beside a finite and an infinite log p.
  const Tensor log_t = numbers({-kInf, -kInf, -1000, 0});
  const Tensor log_p = numbers({-1, -kInf, -kInf, -2});
  CHECK(near(kl_div(log_p, log_t, Reduction::none, true), {0, 0, 0, 2}));
  CHECK(near(kl_div(log_p, exp(log_t), Reduction::none), {0, 0, 0, 2}));
  for (bool log_target : {false, true}) {
    const Tensor target = log_target ? log_t : exp(log_t);
    check_derivatives([=](const Tensors& in) { return kl_div(in[0], in[1], Reduction::mean, log_target); },
                      {log_p.clone().requires_grad_(), target.clone().requires_grad_()});
  }
  // What is there but NaN is no longer nothing.
  CHECK(std::isnan(kl_div(numbers({-1, kNaN}), numbers({0.5f, 0.5f})).item()));
  CHECK(std::isnan(kl_div(numbers({-1, -1}), numbers({0.5f, kNaN}), Reduction::sum, true).item()));
}

TEST_CASE(
    "limits: R-Drop by hand over a vocabulary with a masked class has "
    "the fused loss's gradients") {
  for (bool log_target : {false, true}) {
    const Tensor x = leaf({-kInf, 0.3f, 1}, {1, 3}), y = leaf({-kInf, 0.9f, 0.1f}, {1, 3});
    const auto target = [=](const Tensor& z) { return log_target ? log_softmax(z, -1) : softmax(z, -1); };
    (kl_div(log_softmax(x, -1), target(y), Reduction::sum, log_target) +
     kl_div(log_softmax(y, -1), target(x), Reduction::sum, log_target))
        .backward();
    const Tensor both = stack_passes({x.detach(), y.detach()}).requires_grad_();
    const Tensor label = from_values(std::vector<int64_t>{1}, {1}).to(device());
    const auto loss = [&](double alpha) { return rdrop_cross_entropy(both, label, {.alpha = alpha}).loss; };
    (loss(4) - loss(0)).backward();  // alpha / 4 of the sum of both KLs
    CHECK(near(x.grad(), both.grad().pass(0).to_vector<double>(), 1e-4));
    CHECK(near(y.grad(), both.grad().pass(1).to_vector<double>(), 1e-4));
  }
}

TEST_CASE("limits: binary cross-entropy from logits is exact at both ends") {
  const Tensor x = numbers({20, 40, -20, 10000, -10000, kInf, -kInf, 0});
  const Tensor t = numbers({1, 1, 0, 0, 1, 1, 0, 0.5f});
  const Tensor loss = binary_cross_entropy_with_logits(x, t, Reduction::none);
  CHECK(near(loss, {2.0611536e-9, 4.2483542e-18, 2.0611536e-9, 1e4, 1e4, 0, 0, std::log(2)}));
  CHECK(near(binary_cross_entropy_with_logits(-x, 1 - t, Reduction::none), loss.to_vector<double>(), 0));
  const Tensor z = x.clone().requires_grad_();
  binary_cross_entropy_with_logits(z, t, Reduction::sum).backward();
  CHECK(near(z.grad(), {-2.0611536e-9, -4.2483542e-18, 2.0611536e-9, 1, -1, 0, 0, 0}));
  check_derivatives([&](const Tensors& in) { return binary_cross_entropy_with_logits(in[0], t); }, {z});
  CHECK(binary_cross_entropy_with_logits(numbers({kInf}), numbers({0})).item() == kInf);
}

TEST_CASE("limits: deviations of equal values have derivative 0") {
  const Tensor x = full({2, 4}, 3, {DType::f32, device()}).requires_grad_();
  for (const Shape& dims : {Shape{}, Shape{0}, Shape{1}}) {
    const auto f = [&](const Tensors& in) { return stddev(in[0], dims); };
    CHECK(near(grad(sum(f({x})), {x})[0], std::vector<double>(8, 0)));
    check_derivatives(f, {x});
  }
  // Beside values that differ, these keep theirs.
  const Tensor y = leaf({3, 3, 1, 2}, {2, 2});
  CHECK(near(grad(sum(stddev(y, {1})), {y})[0], {0, 0, -std::sqrt(0.5), std::sqrt(0.5)}));
  CHECK(std::isnan(stddev(numbers({1})).item()));  // of one value there is none
  const auto norms = {
      Function([](const Tensors& in) { return layer_norm(in[0], {4}); }),
      Function([](const Tensors& in) { return rms_norm(in[0] - 3.0); }),
      Function([](const Tensors& in) { return batch_norm(in[0], {}, {}, {}, true); }),
      Function([](const Tensors& in) { return group_norm(in[0], 2); }),
  };
  for (const Function& norm : norms)
    check_derivatives([&](const Tensors& in) { return square(norm(in)); }, {x});
}

TEST_CASE("limits: NaN in the logits of units that are ignored stays there") {
  for (int place : {0, 1, 2}) {  // the padding stands in front, in the middle, at the end
    std::vector<float> values{0.1f, 0.7f, -0.2f, 0.3f, 0.5f, 0.9f, 1, 2, 3};
    std::vector<int64_t> labels{2, 1, 0};
    for (int c = 0; c < 3; ++c) values[3 * place + c] = c == 1 ? kInf : kNaN;
    labels[place] = -100;
    const Tensor target = from_values(labels, {3}).to(device()),
                 x = from_values(values, {3, 3}).to(device()).requires_grad_();
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
    const Tensor both = stack_passes({x.detach(), x.detach() + 0.1}).requires_grad_();
    const Tensor loss = rdrop_cross_entropy(both, target, {.alpha = 1}).loss;
    CHECK(finite(loss));
    loss.backward();
    CHECK(finite(both.grad()));
  }
}

TEST_CASE("limits: NaN in keys and values that are hidden stays out of attention") {
  const int64_t n = 40;
  struct Case {
    DType dtype;
    bool causal;
    double dropout;
    int passes;
  };
  for (const Case& c : {Case{DType::f32, false, 0, 1},
                        {DType::f32, true, 0, 1},
                        {DType::f32, true, 0.3, 2},
                        {DType::bf16, false, 0.3, 2},
                        {DType::bf16, true, 0, 1},
                        {DType::f64, true, 0, 2}}) {
    const double tolerance = device() == kCpu ? 0 : c.dtype == DType::bf16 ? 1e-2 : 1e-6;
    const auto make = [&](uint64_t seed) {
      return testing::normal({1, 2, n, 3}, seed, c.dtype, c.passes).to(device());
    };
    for (int64_t place : {0, 1, 20, 38, 39}) {
      CAPTURE(name_of(c.dtype));
      CAPTURE(c.causal);
      CAPTURE(place);
      const Tensor hidden = eq(arange(0, n, 1, {DType::i64, device()}), double(place)).unsqueeze(0);
      const Tensor column = hidden.unsqueeze(1).unsqueeze(-1);
      const auto outcome = [&](float inside, const Tensor& mask) {
        const PassContext context({.seed = 3, .count = c.passes});
        const Tensor q = make(1).requires_grad_(), k = masked_fill(make(2), column, inside).requires_grad_();
        const Tensor v = masked_fill(make(3), column, inside).requires_grad_();
        const Tensor y = attention(q, k, v, {.causal = c.causal, .dropout = c.dropout}, mask);
        y.backward(2.0 * y.detach());
        return Tensors{y, q.grad(), k.grad(), v.grad()};
      };
      const Tensors clean = outcome(0.5f, hidden);
      for (float inside : {kNaN, kInf, -kInf}) {
        const Tensors got = outcome(inside, hidden);
        for (size_t i = 0; i < got.size(); ++i) {
          CAPTURE(i);
          CHECK(difference(got[i], clean[i]) <= tolerance);
        }
        for (size_t i : {2, 3}) CHECK(near(got[i].select(2, place), std::vector<double>(6 * c.passes, 0)));
      }
      if (!c.causal) continue;
      // Without a mask, a position is hidden from the queries in front of it.
      const auto front = [&](const Tensor& x) { return x.slice(2, 0, place).contiguous(); };
      const Tensors seen = outcome(0.5f, {});
      for (float inside : {kNaN, kInf}) {
        const Tensors got = outcome(inside, {});
        for (size_t i : {0, 1}) CHECK(difference(front(got[i]), front(seen[i])) <= tolerance);
      }
    }
  }
}

TEST_CASE("limits: infinity and NaN stay in the windows of pools that they are in") {
  for (DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    CAPTURE(name_of(dtype));
    const auto map = [&](const Numbers& values) {
      return leaf(values, {1, 2, 6}).to(dtype).detach().requires_grad_();
    };
    const Tensor x = map({kNaN, 1, 2, 4, kInf, 6, 3, 1, 2, 4, 2, 8});
    CHECK(near(avg_pool2d(x, {2, 2}).slice(2, 1, 3), {3, kInf}));
    CHECK(near(avg_pool2d(-x, {2, 2}).slice(2, 1, 3), {-3, -kInf}));
    CHECK(near(avg_pool2d(x, {2, 3}, {1, 1}).slice(2, 1, 2), {14.0 / 6}, 1e-2));
    CHECK(near(adaptive_avg_pool2d(x, {1, 3}).slice(2, 1, 3), {3, kInf}));
    CHECK(near(adaptive_avg_pool2d(x, {2, 6}).slice(2, 1, 6), {1, 2, 4, kInf, 6, 1, 2, 4, 2, 8}));
    CHECK(std::isnan(avg_pool2d(x, {2, 2}).slice(2, 0, 1).to_vector<double>()[0]));
    CHECK(near(max_pool2d(x, {2, 2}).slice(2, 1, 3), {4, kInf}));
    CHECK(std::isnan(max_pool2d(x, {2, 2}).slice(2, 0, 1).to_vector<double>()[0]));
    // A gradient of NaN reaches the elements of its window alone; of -inf, the
    // first wins.
    const Tensor g = map({kNaN, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0}).detach().slice(1, 0, 1).slice(2, 0, 3);
    for (const Function& pool : {Function([](const Tensors& in) {
                                   return avg_pool2d(in[0], {2, 2});
                                 }),
                                 Function([](const Tensors& in) {
                                   return max_pool2d(in[0], {2, 2});
                                 }),
                                 Function([](const Tensors& in) {
                                   return adaptive_avg_pool2d(in[0], {1, 3});
                                 })})
      CHECK(finite(grad(pool({x}), {x}, g)[0].slice(2, 2, 6)));
    const Tensor low = full({1, 2, 4}, -kInf, {dtype, device()}).requires_grad_();
    const Tensor y = max_pool2d(low, {2, 2});
    CHECK(near(y, {-kInf, -kInf}));
    CHECK(near(grad(y, {low}, ones_like(y))[0], {1, 0, 1, 0, 0, 0, 0, 0}));
  }
}

TEST_CASE(
    "limits: NaN that a choice leaves out has no gradient, and zeros of "
    "a product keep theirs") {
  const Tensor x = leaf({kNaN, 2, kInf, 4}, {4}), y = leaf({1, kNaN, 3, -kInf}, {4});
  const Tensor first = lt(numbers({0, 1, 0, 1}), 0.5);  // 1 is y's
  const Tensor chosen = where(first, y, x);
  CHECK(near(chosen, {1, 2, 3, 4}));
  const Tensors g = grad(sum(square(chosen)), {x, y});
  CHECK(near(g[0], {0, 4, 0, 8}));
  CHECK(near(g[1], {2, 0, 6, 0}));
  CHECK(near(grad(sum(square(masked_fill(x, first, 3))), {x})[0], {0, 4, 0, 8}));
  const Tensor p = leaf({0, 2, 3, 0, 5, 0, 1, 2, 3}, {3, 3});
  const Function product = [](const Tensors& in) { return prod(in[0], {1}); };
  CHECK(near(product({p}), {0, 0, 6}));
  CHECK(near(grad(sum(product({p})), {p})[0], {6, 0, 0, 0, 0, 0, 6, 3, 2}));
  check_derivatives(product, {p});
}

TEST_CASE("limits: sums and extrema of infinity and NaN, along rows and columns") {
  for (DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    CAPTURE(name_of(dtype));
    const Tensor x = leaf({1, kInf, -kInf, 4, -kInf, kInf, 2, 3, -kInf}, {3, 3}).to(dtype).detach();
    for (const Tensor& t : {x.t(), x.t().contiguous()}) {
      CHECK(near(sum(t, {0}).slice(0, 2, 3), {-kInf}));
      CHECK(near(cumsum(t, 0).select(1, 2), {2, 5, -kInf}));
      CHECK(near(amax(t, {0}), {kInf, kInf, 3}));
      CHECK(near(amin(t, {0}), {-kInf, -kInf, -kInf}));
      for (double value : sum(t, {0}).slice(0, 0, 2).to_vector<double>()) CHECK(std::isnan(value));
      CHECK(std::isnan(cumsum(t, 0).select(1, 0).to_vector<double>()[2]));
    }
  }
  const Tensor row = full({3000}, 1, {DType::f32, device()});
  row.select(0, 2000).fill_(kInf);
  CHECK(finite(cumsum(row, 0).slice(0, 0, 2000)));
  CHECK(near(cumsum(row, 0).slice(0, 1999, 2001), {2000, kInf}));
}

TEST_CASE("limits: what dropout drops is 0, whatever it was") {
  const PassContext context({.seed = 3});
  for (float inside : {kNaN, kInf}) {
    const Tensor y = dropout(full({100}, inside, {DType::f32, device()}), 0.5);
    int zeros = 0;
    for (float value : y.to_vector<float>()) zeros += value == 0;
    CHECK(zeros > 20);
  }
}
