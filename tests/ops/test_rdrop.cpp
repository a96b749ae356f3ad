// The R-Drop losses against their definition: pair by pair, in Tensor ops.
#include <doctest/doctest.h>

#include <limits>

#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/linear.h"
#include "ops/losses.h"
#include "ops/pointwise.h"
#include "ops/rdrop/rdrop.h"
#include "ops/softmax.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Composed {
  Tensor loss, ce, kl;
};

// logits: m passes of [units, classes]; excluded classes are -inf in all of them. valid: f64 [units], 0 or 1.
Composed rdrop_cross_entropy_composed(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                                      const Tensor& valid) {
  const int m = logits.passes();
  const Tensor excluded = lt(logits.detach().pass(0), -1e300);
  const double divisor = options.divisor > 0 ? options.divisor : std::max(1.0, valid.sum().item());
  Tensors log_p;
  Tensor ce = zeros({}, {DType::f64}), kl = ce;
  for (int i = 0; i < m; ++i) {
    log_p.push_back(masked_fill(log_softmax(logits.pass(i), -1), excluded, 0));
    const Tensor losses = cross_entropy(logits.pass(i), target,
                                        {.ignore_index = options.ignore_index,
                                         .label_smoothing = options.label_smoothing,
                                         .reduction = Reduction::none});
    ce = ce + (losses * valid).sum() / (m * divisor);
  }
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < m; ++j) {
      if (i == j) continue;
      const Tensor p = masked_fill(exp(log_p[i]), excluded, 0);
      const Tensor distance = (p * (log_p[i] - log_p[j])).sum({-1});
      kl = kl + (distance * valid).sum() / (m * (m - 1) * divisor);
    }
  return {ce + kl * (options.alpha / 2), ce, kl};
}

Tensor random_passes(int m, const Shape& shape, uint64_t seed) {
  return cotangent_like(empty(shape, {DType::f64}, m), seed);
}
Tensor random_labels(int64_t count, int64_t classes, uint64_t seed) {
  return SampleMaker(seed, DType::f64, kCpu).integers({count}, 0, classes);
}

// Value, parts and the gradient for a cotangent of -1.7.
void check_against_definition(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                              const Tensor& mask) {
  Tensor valid = ne(target, static_cast<double>(options.ignore_index)).to(DType::f64);
  if (mask.defined()) valid = valid * mask.to(DType::f64);
  const Tensor x = logits.detach().requires_grad_(), y = logits.detach().requires_grad_();
  const Composed expected = rdrop_cross_entropy_composed(x, target, options, valid);
  expected.loss.backward(scalar(-1.7, {DType::f64}));
  const LossParts fused = rdrop_cross_entropy(y, target, options, mask);
  fused.loss.backward(scalar(-1.7, {DType::f64}));
  CHECK(fused.loss.item() == doctest::Approx(expected.loss.item()).epsilon(1e-10));
  CHECK(fused.ce == doctest::Approx(expected.ce.item()).epsilon(1e-10));
  CHECK(fused.kl == doctest::Approx(expected.kl.item()).epsilon(1e-10));
  CHECK(fused.valid == static_cast<int64_t>(valid.sum().item()));
  const Closeness c = close(y.grad(), x.grad(), 1e-10);
  CHECK_MESSAGE(c.close, c.message);
}

}  // namespace

TEST_CASE("the fused R-Drop cross-entropy equals its pairwise definition for 1 to 8 passes") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (int m = 1; m <= 8; ++m) {
    INFO(m, " passes");
    const Tensor logits = random_passes(m, {6, 37}, m).mul_(2);
    Tensor target = random_labels(6, 37, m);
    check_against_definition(logits, target, {.alpha = 2.5}, {});
    check_against_definition(logits, target, {.alpha = 0, .label_smoothing = 0.1}, {});
    target.data<int64_t>()[2] = 5;
    const Tensor mask = from_values(std::vector<uint8_t>{1, 0, 1, 1, 0, 1}, {6}).to(DType::boolean);
    const RDropOptions all{.alpha = 0.7, .label_smoothing = 0.3, .ignore_index = 5, .divisor = 11};
    check_against_definition(logits, target, all, mask);
    Tensors excluded;
    for (int i = 0; i < m; ++i) {
      const Tensor z = logits.pass(i).clone();
      for (int64_t u = 0; u < 6; ++u)
        for (int64_t c = 0; c < 37; ++c)
          if ((c + u) % 5 == 0 && target.data<int64_t>()[u] != c) z.data<double>()[u * 37 + c] = -kInf;
      excluded.push_back(z);
    }
    check_against_definition(stack_passes(excluded), target, all, mask);
  }
}

TEST_CASE("R-Drop regression equals its pairwise definition, and cross_entropy is R-Drop of one pass") {
  for (int m = 1; m <= 4; ++m) {
    const Tensor target = random_passes(1, {5}, 40), start = random_passes(m, {5}, 41 + m);
    const Tensor x = start.detach().requires_grad_(), y = start.detach().requires_grad_();
    Tensor expected = zeros({}, {DType::f64});
    for (int i = 0; i < m; ++i) {
      expected = expected + square(x.pass(i) - target).sum() / (5.0 * m);
      for (int j = 0; j < m; ++j)
        if (i != j) expected = expected + square(x.pass(i) - x.pass(j)).sum() * (0.75 / (5.0 * m * (m - 1)));
    }
    expected.backward();
    const LossParts fused = rdrop_mse(y, target, {.alpha = 1.5});
    fused.loss.backward();
    CHECK(fused.loss.item() == doctest::Approx(expected.item()).epsilon(1e-12));
    CHECK(close(y.grad(), x.grad(), 1e-12).close);
  }
  const Tensor logits = random_passes(1, {4, 9}, 50), target = random_labels(4, 9, 50);
  CHECK(rdrop_cross_entropy(logits, target, {.alpha = 3}).loss.item() ==
        cross_entropy(logits, target).item());
}

TEST_CASE("cotangent 1 hands on the gradient itself; a shared tensor stands for all passes") {
  const Tensor x = random_passes(2, {3, 10}, 1).requires_grad_(), target = random_labels(3, 10, 1);
  const Tensor logits = x * 1.0;
  std::vector<void*> seen;
  logits.register_hook([&](const Tensor& gradient) { return seen.push_back(gradient.raw()), gradient; });
  const LossParts parts = rdrop_cross_entropy(logits, target);
  for (const double cotangent : {1, 1, 2}) {
    parts.loss.backward(scalar(cotangent, {DType::f64}), {.retain_graph = true});
  }
  CHECK(seen[0] == seen[1]);
  CHECK(seen[0] != seen[2]);
  const Tensor shared = x.detach().pass(0);
  const LossParts once = rdrop_cross_entropy(shared, target, {.alpha = 9}, {}, 4);
  const LossParts plain = rdrop_cross_entropy(shared, target, {.alpha = 0});
  CHECK(once.kl == 0);
  CHECK(once.loss.item() == plain.loss.item());
  CHECK(once.correct == 4 * plain.correct);
}

TEST_CASE("linear + R-Drop in chunks equals the two ops, over several chunks") {
  // 2 passes of 700 units of 3000 classes: 34 MB of f32 logits, several chunks.
  const Tensor hidden = random_passes(2, {70, 10, 12}, 2), weight = random_passes(1, {3000, 12}, 3),
               bias = random_passes(1, {3000}, 4);
  const Tensor target = random_labels(700, 3000, 5).reshape({70, 10});
  const Tensor mask = SampleMaker(6, DType::f64, kCpu).mask({70, 10});
  const RDropOptions options{.alpha = 2, .label_smoothing = 0.1, .divisor = 640};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    INFO(std::string(name_of(dtype)));
    auto leaf = [&](const Tensor& x, DType type) { return x.to(type).clone().requires_grad_(); };
    const DType parameters = dtype == DType::bf16 ? DType::f32 : dtype;  // mixed precision
    const Tensors a{leaf(hidden, dtype), leaf(weight, parameters), leaf(bias, parameters)},
        b{leaf(hidden, dtype), leaf(weight, parameters), leaf(bias, parameters)};
    const LossParts whole = rdrop_cross_entropy(linear(a[0], a[1], a[2]), target, options, mask);
    const LossParts chunks = linear_rdrop_cross_entropy(b[0], b[1], b[2], target, options, mask);
    const double tolerance = dtype == DType::f64 ? 1e-11 : dtype == DType::f32 ? 1e-5 : 2e-2;
    CHECK(chunks.loss.item() == doctest::Approx(whole.loss.item()).epsilon(tolerance));
    CHECK(chunks.kl == doctest::Approx(whole.kl).epsilon(tolerance));
    CHECK(chunks.valid == whole.valid);
    if (dtype != DType::bf16) CHECK(chunks.correct == whole.correct);
    whole.loss.backward();
    chunks.loss.backward();
    for (size_t i = 0; i < a.size(); ++i) {
      const Closeness c = close(b[i].grad().to(DType::f64), a[i].grad().to(DType::f64), tolerance);
      CHECK_MESSAGE(c.close, "input ", i, ": ", c.message);
      CHECK(b[i].grad().dtype() == b[i].dtype());
    }
  }
}

TEST_CASE("linear + R-Drop names the unit of an error, in whatever chunk, where others are left out, too") {
  const Tensor weight = random_passes(1, {3000, 12}, 3), target = random_labels(700, 3000, 5);
  std::vector<int64_t> some = target.to_vector<int64_t>();
  for (size_t u = 0; u < some.size(); u += 3) some[u] = -100;
  for (const Tensor& labels : {target, from_values(some, {700})}) {
    for (const int64_t unit : {1, 698}) {
      const Tensor hidden = random_passes(2, {700, 12}, 2);
      hidden.pass(1).select(0, unit).fill_(std::nan(""));
      const std::string expected = "logit is nan at unit " + std::to_string(unit) + ", class 0, pass 1,";
      CHECK_THROWS_WITH_AS(linear_rdrop_cross_entropy(hidden, weight, {}, labels),
                           doctest::Contains(expected.c_str()), NonFiniteError);
    }
  }
}

TEST_CASE("the KL of logits that are far apart and huge is that of its definition") {
  // Of P = (1/2, 1/2, 0), (0, 0, 1), (0, 1, 0), whose log-probabilities are multiples of a but for log 2.
  for (const auto& [type_of_a, a] :
       {std::pair{DType::f32, 0x1p30}, {DType::bf16, 0x1p30}, {DType::f64, 0x1p60}}) {
    const DType dtype = type_of_a;
    const auto pass = [&](double x, double y, double z) {
      return from_values(std::vector<double>{x, y, z}, {1, 3}).to(dtype);
    };
    const Tensors all{pass(a, a, 0), pass(0, 0, 1.25 * a), pass(0, 0.75 * a, 0)};
    const double pairs =
        (1.25 + 0.375 + 1 + 0.75 + 0 + 1.25) * a;  // KL(0|1), (0|2), (1|0), (1|2), (2|0), (2|1)
    const Tensor label = from_values(std::vector<int64_t>{1}, {1});
    for (const std::vector<size_t>& order : {std::vector<size_t>{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}) {
      INFO(std::string(name_of(dtype)), ", first pass ", order[0]);
      const Tensors passes{all[order[0]], all[order[1]], all[order[2]]};
      CHECK(rdrop_cross_entropy(stack_passes(passes), label).kl == doctest::Approx(pairs / 6).epsilon(1e-6));
      // Every pass twice, which takes the loops of any number: 4 ordered pairs for each of before, of 6 * 5.
      const Tensors twice{passes[0], passes[1], passes[2], passes[0], passes[1], passes[2]};
      CHECK(rdrop_cross_entropy(stack_passes(twice), label).kl ==
            doctest::Approx(4 * pairs / 30).epsilon(1e-6));
    }
  }
}

TEST_CASE("the target's gradient of rdrop_mse is rounded once, also of 16 bits and a large alpha") {
  const int m = 8;
  const Tensor valid = from_values(std::vector<uint8_t>{1, 1, 0, 1, 1, 1}, {6}).to(DType::boolean);
  for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    INFO(std::string(name_of(dtype)));
    const Tensor y = random_passes(m, {6}, 3).to(dtype).requires_grad_();
    const Tensor target = random_passes(1, {6}, 4).to(dtype).requires_grad_();
    (rdrop_mse(y, target, {.alpha = 20}, valid).loss * -3).backward();
    const Tensor errors = y.detach().to(DType::f64) - target.detach().to(DType::f64);
    const auto got = target.grad().to_vector<double>();
    for (int64_t u = 0; u < 6; ++u) {
      double sum = 0;
      for (int i = 0; i < m; ++i) sum += errors.pass(i).select(0, u).item();
      const double wanted = u == 2 ? 0 : 3 * 2 * sum / (m * 5);
      CHECK(std::abs(got[u] - wanted) <=
            std::abs(wanted) * (dtype == DType::bf16 ? 0x1p-8 : 1e-6) + (dtype == DType::f64 ? 1e-15 : 1e-7));
    }
  }
}
