// Mistakes that implementations of R-Drop are known for, each with a case in which it would show.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/arithmetic.h"
#include "ops/dropout.h"
#include "ops/losses.h"
#include "ops/pointwise.h"
#include "ops/rdrop/rdrop.h"
#include "ops/softmax.h"
#include "ops/views.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr int64_t kUnits = 4, kClasses = 5;
const double kInf = std::numeric_limits<double>::infinity();

Tensor passes_of(int m, uint64_t seed, double scale = 1) {
  return cotangent_like(empty({kUnits, kClasses}, {DType::f64}, m), seed).mul_(scale);
}
Tensor labels(const std::vector<int64_t>& values = {0, 3, 1, 4}) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}
Tensor mask(const std::vector<uint8_t>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())}).to(DType::boolean);
}

// The symmetric KL of two passes at each unit, by hand: half of KL(P||Q) + KL(Q||P) is what Eq. 2 calls L_KL.
std::vector<double> symmetric_kl(const Tensor& logits) {
  const auto z = logits.to_vector<double>();
  const int64_t units = logits.size(0), classes = logits.size(1), pass = units * classes;
  std::vector<double> result;
  for (int64_t u = 0; u < units; ++u) {
    double sums[2] = {0, 0}, total = 0;
    for (int i = 0; i < 2; ++i)
      for (int64_t c = 0; c < classes; ++c) sums[i] += std::exp(z[i * pass + u * classes + c]);
    for (int64_t c = 0; c < classes; ++c) {
      const double a = z[u * classes + c] - std::log(sums[0]),
                   b = z[pass + u * classes + c] - std::log(sums[1]);
      total += 0.5 * (std::exp(a) - std::exp(b)) * (a - b);
    }
    result.push_back(total);
  }
  return result;
}
double mean_kl(const Tensor& logits) {
  double total = 0;
  for (double x : symmetric_kl(logits)) total += x;
  return total / static_cast<double>(logits.size(0));
}
double nll(const Tensor& logits, int pass, const Tensor& target) {
  return cross_entropy(logits.pass(pass), target).item();
}
Tensor gradient(const Tensor& logits, const Tensor& target, const RDropOptions& options,
                const Tensor& valid = {}) {
  const Tensor x = logits.detach().clone().requires_grad_();
  rdrop_cross_entropy(x, target, options, valid).loss.backward();
  return x.grad();
}

}  // namespace

TEST_CASE("mistake: the same random state in both passes, so that the KL is 0") {
  PassContext context({.seed = 1, .count = 2});
  const Tensor logits = dropout(cotangent_like(empty({kUnits, kClasses}, {DType::f64}), 1), 0.3);
  CHECK(rdrop_cross_entropy(logits, labels()).kl > 0.01);
}

TEST_CASE("mistake: masks drawn once per batch, so that both halves are dropped alike") {
  PassContext context({.seed = 1, .count = 2});
  const Tensor x = dropout(ones({2, 64}, {DType::f64}), 0.5);  // two equal samples, two passes
  CHECK(!same_bits(select(x.pass(0), 0, 0), select(x.pass(0), 0, 1)));
  CHECK(!same_bits(x.pass(0), x.pass(1)));
}

TEST_CASE("mistake: raw logits or probabilities given to the KL instead of logits inside of it") {
  const Tensor logits = passes_of(2, 2);
  CHECK(rdrop_cross_entropy(logits, labels()).kl == doctest::Approx(mean_kl(logits)).epsilon(1e-12));
  // A constant added to a unit's logits changes no probability; taken for log-probabilities they would
  // differ.
  const Tensor shifted = stack_passes({logits.pass(0) + 3.0, logits.pass(1) - 2.0});
  CHECK(rdrop_cross_entropy(shifted, labels()).kl == doctest::Approx(mean_kl(logits)).epsilon(1e-12));
}

TEST_CASE("mistake: the mean over classes instead of the sum") {
  const Tensor logits = passes_of(2, 3);
  // Four more classes that have no probability: a mean over classes would shrink.
  Tensors wide;
  for (int i = 0; i < 2; ++i) {
    const Tensor z = full({kUnits, 2 * kClasses}, -800, {DType::f64});
    slice(z, 1, 0, kClasses).copy_(logits.pass(i));
    wide.push_back(z);
  }
  CHECK(rdrop_cross_entropy(stack_passes(wide), labels()).kl ==
        doctest::Approx(rdrop_cross_entropy(logits, labels()).kl).epsilon(1e-12));
}

TEST_CASE("mistake: padding counted, or the mask's polarity flipped") {
  const Tensor logits = passes_of(2, 4), valid = mask({1, 1, 0, 1});
  const LossParts parts = rdrop_cross_entropy(logits, labels(), {}, valid);
  const auto kl = symmetric_kl(logits);
  CHECK(parts.valid == 3);
  CHECK(parts.kl == doctest::Approx((kl[0] + kl[1] + kl[3]) / 3).epsilon(1e-12));
  Tensors changed;  // what is in a padded unit does not matter, even if it is not a number
  for (int i = 0; i < 2; ++i) {
    const Tensor z = logits.pass(i).clone();
    select(z, 0, 2).fill_(i ? kInf - kInf : 1e300);
    changed.push_back(z);
  }
  CHECK(rdrop_cross_entropy(stack_passes(changed), labels(), {}, valid).loss.item() == parts.loss.item());
  const Tensor g = gradient(logits, labels(), {}, valid);
  for (int i = 0; i < 2; ++i)
    for (double x : select(g.pass(i), 0, 2).to_vector<double>()) CHECK(x == 0);
}

TEST_CASE("mistake: ignore_index leaves a unit out of CE and not out of KL") {
  const Tensor logits = passes_of(2, 5);
  const LossParts ignored = rdrop_cross_entropy(logits, labels({0, 3, -100, 4}));
  const LossParts masked = rdrop_cross_entropy(logits, labels(), {}, mask({1, 1, 0, 1}));
  CHECK(ignored.kl == masked.kl);
  CHECK(ignored.ce == masked.ce);
  CHECK(ignored.valid == masked.valid);
}

TEST_CASE("mistake: stacked and interleaved order confused, labels not repeated") {
  // Passes that agree on labels which differ between units: with the right pairing the KL is 0 and every
  // prediction is right.
  const Tensor sharp = zeros({kUnits, kClasses}, {DType::f64});
  const auto target = labels().to_vector<int64_t>();
  for (int64_t u = 0; u < kUnits; ++u) sharp.data<double>()[u * kClasses + target[u]] = 9;
  const LossParts parts = rdrop_cross_entropy(stack_passes({sharp, sharp}), labels());
  CHECK(parts.kl == 0);
  CHECK(parts.correct == 2 * kUnits);
  CHECK(parts.ce < 1e-3);
}

TEST_CASE("mistake: the caller's batch edited in place") {
  const Tensor logits = passes_of(2, 6).requires_grad_(), target = labels({0, -100, 1, 4}),
               valid = mask({1, 1, 0, 1});
  const Tensor before[] = {logits.detach().clone(), target.clone(), valid.clone()};
  rdrop_cross_entropy(logits, target, {.label_smoothing = 0.1}, valid).loss.backward();
  CHECK(same_bits(logits, before[0]));
  CHECK(same_bits(target, before[1]));
  CHECK(same_bits(valid, before[2]));
}

TEST_CASE("mistake: a logged loss of twice its size, the passes counted as N or 2N units") {
  const Tensor one = passes_of(1, 7);
  const double plain = cross_entropy(one, labels()).item();
  for (int m : {1, 2, 5}) {
    const LossParts parts = rdrop_cross_entropy(stack_passes(Tensors(m, one)), labels(), {.alpha = 5});
    CHECK(parts.loss.item() == doctest::Approx(plain).epsilon(1e-12));
    CHECK(parts.ce == doctest::Approx(plain).epsilon(1e-12));
    CHECK(parts.valid == kUnits);
  }
}

TEST_CASE("mistake: one pass's CE missing") {
  const Tensor logits = passes_of(2, 8);
  CHECK(rdrop_cross_entropy(logits, labels(), {.alpha = 0}).loss.item() ==
        doctest::Approx((nll(logits, 0, labels()) + nll(logits, 1, labels())) / 2).epsilon(1e-12));
}

TEST_CASE("mistake: one side of the KL detached") {
  const Tensor logits = passes_of(2, 9);
  const GradcheckResult result = gradcheck(
      [](const Tensors& in) { return rdrop_cross_entropy(in[0], labels(), {.alpha = 50}).loss; }, {logits});
  CHECK_MESSAGE(result.passed, result.message);
  // Swapping the passes swaps the gradients: neither side is special.
  const Tensor g = gradient(logits, labels(), {.alpha = 50});
  const Tensor swapped = gradient(stack_passes({logits.pass(1), logits.pass(0)}), labels(), {.alpha = 50});
  CHECK(close(g.pass(0), swapped.pass(1), 1e-12).close);
  CHECK(close(g.pass(1), swapped.pass(0), 1e-12).close);
}

TEST_CASE("mistake: alpha in other units than Eq. 4's") {
  // Eq. 4 at m = 2 is the sum of both CE and alpha times the symmetric KL: twice this loss.
  const Tensor logits = passes_of(2, 10);
  const double paper = nll(logits, 0, labels()) + nll(logits, 1, labels()) + 5 * mean_kl(logits);
  CHECK(2 * rdrop_cross_entropy(logits, labels(), {.alpha = 5}).loss.item() ==
        doctest::Approx(paper).epsilon(1e-12));
}

TEST_CASE("mistake: logits of -inf give NaN") {
  Tensors open;
  for (int i = 0; i < 2; ++i) {
    const Tensor z = passes_of(1, 11 + i).clone();
    select(z, 1, 2).fill_(-kInf);  // no label is 2
    open.push_back(z);
  }
  const Tensor logits = stack_passes(open);
  const LossParts parts = rdrop_cross_entropy(logits, labels(), {.label_smoothing = 0.1});
  CHECK(std::isfinite(parts.loss.item()));
  for (double x : gradient(logits, labels(), {.label_smoothing = 0.1}).to_vector<double>())
    CHECK(std::isfinite(x));
  CHECK_THROWS_AS(rdrop_cross_entropy(logits, labels({0, 2, 1, 4})), ValueError);
  CHECK_THROWS_AS(rdrop_cross_entropy(stack_passes({open[0], passes_of(1, 12)}), labels()), ValueError);
}

TEST_CASE("mistake: softmax in 16 bits") {
  // Passes that differ by less than a bf16 probability can tell: the KL must be that of the very logits.
  Tensors passes;
  for (int i = 0; i < 2; ++i) {
    passes.push_back(
        (full({1, 2000}, 1, {DType::f64}) + (cotangent_like(empty({1, 2000}, {DType::f64}), 20 + i) * 0.02))
            .to(DType::bf16));
  }
  const Tensor narrow = stack_passes(passes), wide = narrow.to(DType::f64);
  const LossParts a = rdrop_cross_entropy(narrow, labels({7})), b = rdrop_cross_entropy(wide, labels({7}));
  CHECK(b.kl > 1e-5);
  CHECK(a.kl == doctest::Approx(b.kl).epsilon(1e-4));
  CHECK(a.ce == doctest::Approx(b.ce).epsilon(1e-6));
  CHECK(a.loss.dtype() == DType::f32);
}

TEST_CASE("mistake: gradient accumulation changes alpha or the divisor") {
  const Tensor logits = passes_of(2, 13), target = labels({0, 3, -100, 4});
  const RDropOptions whole{.alpha = 3}, part{.alpha = 3, .divisor = 3};
  const Tensor expected = gradient(logits, target, whole);
  double loss = 0;
  for (int64_t u = 0; u < kUnits; ++u) {
    const Tensor x = slice(logits, 0, u, u + 1).detach().clone(), y = slice(target, 0, u, u + 1);
    loss += rdrop_cross_entropy(x, y, part).loss.item();
    const Tensor g = gradient(x, y, part);
    CHECK(close(g, slice(expected, 0, u, u + 1), 1e-12).close);
  }
  CHECK(loss == doctest::Approx(rdrop_cross_entropy(logits, target, whole).loss.item()).epsilon(1e-12));
}

TEST_CASE("mistake: the KL by differences of entropies, which comes out negative where passes nearly agree") {
  Tensors passes;
  for (int i = 0; i < 2; ++i) {
    passes.push_back((cotangent_like(empty({1, 10152}, {DType::f64}), 30) +
                      cotangent_like(empty({1, 10152}, {DType::f64}), 31 + i) * 1e-4)
                         .to(DType::f32));
  }
  const Tensor narrow = stack_passes(passes);
  const double kl = rdrop_cross_entropy(narrow, labels({3})).kl;
  CHECK(kl > 0);
  CHECK(kl == doctest::Approx(rdrop_cross_entropy(narrow.to(DType::f64), labels({3})).kl).epsilon(1e-3));
}
