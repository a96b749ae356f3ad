#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "autograd/error.h"
#include "autograd/parallel.h"
#include "ops/rdrop/cpu.h"

using namespace tandem;
using namespace tandem::rdrop;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Random {
  uint64_t state;
  double uniform() {  // [0, 1)
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return double(state >> 11) * 0x1p-53;
  }
  double normal() {
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.283185307179586 * uniform());
  }
};

// One call's inputs, dense, with room behind each row (`gap`) to see that strides are used.
struct Case {
  Problem problem;
  std::vector<double> logits;
  std::vector<int64_t> target;
  std::vector<uint8_t> valid;
  int64_t unit_stride, pass_stride;

  Case(int64_t passes, int64_t units, int64_t classes, uint64_t seed, double scale = 2, double spread = 1,
       int64_t gap = 3)
      : problem{.passes = passes, .units = units, .classes = classes},
        unit_stride(classes + gap),
        pass_stride(units * (classes + gap) + 5) {
    Random random{seed};
    logits.assign(passes * pass_stride, kNan);  // what lies between the rows is never read
    target.resize(units);
    valid.assign(units, 1);
    for (int64_t u = 0; u < units; ++u) {
      target[u] = std::min(classes - 1, int64_t(random.uniform() * double(classes)));
      for (int64_t c = 0; c < classes; ++c) {
        const double base = scale * random.normal();
        for (int64_t i = 0; i < passes; ++i) at(i, u, c) = base + spread * random.normal();
      }
    }
    problem.alpha = 1.7;
    problem.divisor = double(units) + 0.5;
  }
  double& at(int64_t i, int64_t u, int64_t c) { return logits[i * pass_stride + u * unit_stride + c]; }
  double at(int64_t i, int64_t u, int64_t c) const { return logits[i * pass_stride + u * unit_stride + c]; }
  bool counted(int64_t u) const { return valid[u] != 0 && target[u] != problem.ignore_index; }
};

struct Result {
  LossSums sums;
  std::vector<double> grad;
  double loss(const Problem& problem) const { return sums.ce + problem.alpha / 2 * sums.kl; }
};

template <class T> std::vector<T> cast(const std::vector<double>& values) {
  std::vector<T> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = T(values[i]);
  return out;
}

template <class T> Result run(const Case& c, bool in_place = false) {
  std::vector<T> logits = cast<T>(c.logits), grad(logits.size(), T(7));
  T* out = in_place ? logits.data() : grad.data();
  Result result;
  result.sums = cross_entropy_on_cpu<T>({.problem = c.problem,
                                         .x = {logits.data(), c.pass_stride, c.unit_stride},
                                         .grad = {out, c.pass_stride, c.unit_stride},
                                         .target = c.target.data(),
                                         .valid = c.valid.data()});
  result.grad.assign(out, out + logits.size());
  return result;
}
LossSums value_only(const Case& c) {
  return cross_entropy_on_cpu<double>({.problem = c.problem,
                                       .x = {c.logits.data(), c.pass_stride, c.unit_stride},
                                       .grad = {},
                                       .target = c.target.data(),
                                       .valid = c.valid.data()});
}

// The definition, pair by pair, with its gradient: d KL(P_i || P_j) / dz_i = P_i (log P_i - log P_j - KL),
// d KL(P_i || P_j) / dz_j = P_j - P_i.
Result naive(const Case& c) {
  const Problem& problem = c.problem;
  const int64_t m = problem.passes, v = problem.classes;
  Result result;
  result.grad.assign(c.logits.size(), 0);
  for (int64_t u = 0; u < problem.units; ++u) {
    if (!c.counted(u)) continue;
    ++result.sums.valid;
    std::vector<int64_t> kept;
    for (int64_t k = 0; k < v; ++k)
      if (c.at(0, u, k) != -kInf) kept.push_back(k);
    std::vector<std::vector<double>> log_p(m, std::vector<double>(v));
    for (int64_t i = 0; i < m; ++i) {
      double max = -kInf, sum = 0;
      for (int64_t k : kept) max = std::max(max, c.at(i, u, k));
      for (int64_t k : kept) sum += std::exp(c.at(i, u, k) - max);
      for (int64_t k : kept) log_p[i][k] = c.at(i, u, k) - max - std::log(sum);
      const double smooth = problem.label_smoothing / double(kept.size()),
                   ce_weight = 1 / (double(m) * problem.divisor);
      bool hit = true;
      for (int64_t k : kept) {
        const double z = c.at(i, u, k), zt = c.at(i, u, c.target[u]);
        hit &= z < zt || (z == zt && k >= c.target[u]);
        const double want = smooth + (k == c.target[u] ? 1 - problem.label_smoothing : 0);
        result.sums.ce -= ce_weight * want * log_p[i][k];
        result.grad[i * c.pass_stride + u * c.unit_stride + k] += ce_weight * (std::exp(log_p[i][k]) - want);
      }
      result.sums.correct += hit;
    }
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < m; ++j) {
        if (i == j) continue;
        const double pair = 1 / (double(m * (m - 1)) * problem.divisor);
        double kl = 0;
        for (int64_t k : kept) kl += std::exp(log_p[i][k]) * (log_p[i][k] - log_p[j][k]);
        result.sums.kl += pair * kl;
        for (int64_t k : kept) {
          const double p = std::exp(log_p[i][k]), q = std::exp(log_p[j][k]);
          const int64_t at = u * c.unit_stride + k;
          result.grad[i * c.pass_stride + at] +=
              problem.alpha / 2 * pair * p * (log_p[i][k] - log_p[j][k] - kl);
          result.grad[j * c.pass_stride + at] += problem.alpha / 2 * pair * (q - p);
        }
      }
  }
  return result;
}

// Largest difference of the gradients at the rows' own places; and that nothing else was written.
double gradient_error(const Case& c, const Result& got, const Result& want, double untouched = 7) {
  double error = 0;
  std::vector<uint8_t> inside(c.logits.size(), 0);
  for (int64_t i = 0; i < c.problem.passes; ++i)
    for (int64_t u = 0; u < c.problem.units; ++u)
      for (int64_t k = 0; k < c.problem.classes; ++k) {
        const int64_t at = i * c.pass_stride + u * c.unit_stride + k;
        inside[at] = 1;
        const double difference = std::abs(got.grad[at] - want.grad[at]);
        error = difference <= error ? error : difference;  // NaN stays
        if (!c.counted(u)) CHECK(got.grad[at] == 0);
      }
  for (size_t at = 0; at < inside.size(); ++at)
    if (!inside[at] && untouched == untouched) CHECK(got.grad[at] == untouched);
  return error;
}

void mask_some(Case& c) {
  const int64_t units = c.problem.units;
  c.valid[1] = 0;
  c.problem.ignore_index = c.problem.classes > 2 ? 0 : -100;
  c.target[units - 1] = c.problem.ignore_index;
  for (int64_t u : {int64_t{1}, units - 1})
    for (int64_t i = 0; i < c.problem.passes; ++i)
      for (int64_t k = 0; k < c.problem.classes; ++k) c.at(i, u, k) = kNan;
}

void exclude_some(Case& c) {
  for (int64_t u = 0; u < c.problem.units; u += 2)
    for (int64_t k = u % 3; k < c.problem.classes; k += 3)
      if (k != c.target[u] && c.counted(u))
        for (int64_t i = 0; i < c.problem.passes; ++i) c.at(i, u, k) = -kInf;
}

template <class F> std::string message_of(F&& f) {
  try {
    f();
  } catch (const ValueError& error) {
    return error.what();
  }
  return "no ValueError";
}

}  // namespace

TEST_CASE("R-Drop cross-entropy is the pairwise definition, for any number of passes and classes") {
  for (int64_t m = 1; m <= 8; ++m)
    for (int64_t v : {1, 2, 3, 17, 1000})
      for (int variant = 0; variant < 4; ++variant) {
        CAPTURE(m);
        CAPTURE(v);
        CAPTURE(variant);
        Case c(m, 7, v, uint64_t(m * 100 + v + variant));
        c.problem.label_smoothing = variant % 2 ? 0.1 : 0;
        if (variant >= 1) mask_some(c);
        if (variant >= 2) exclude_some(c);
        const Result got = run<double>(c), want = naive(c);
        CHECK(got.sums.ce == doctest::Approx(want.sums.ce).epsilon(1e-10));
        CHECK(std::abs(got.sums.kl - want.sums.kl) < 1e-10 * (1 + want.sums.kl));
        CHECK(got.sums.valid == want.sums.valid);
        CHECK(got.sums.correct == want.sums.correct);
        CHECK(gradient_error(c, got, want) < 1e-10);
        const LossSums value = value_only(c);
        CHECK(value.ce == got.sums.ce);
        CHECK(std::abs(value.kl - got.sums.kl) <= 1e-14 * got.sums.kl);
        CHECK(value.correct == got.sums.correct);
        CHECK(gradient_error(c, run<double>(c, true), got, kNan) == 0);
      }
}

TEST_CASE("R-Drop gradient is the derivative of its value") {
  for (int64_t m : {1, 2, 3, 4, 5}) {
    CAPTURE(m);
    Case c(m, 3, 13, 5);
    c.problem.label_smoothing = 0.2;
    c.problem.alpha = 3;
    exclude_some(c);
    const Result got = run<double>(c);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t u = 0; u < 3; ++u)
        for (int64_t k = 0; k < 13; ++k) {
          if (c.at(i, u, k) == -kInf) continue;
          const double h = 6e-6, z = c.at(i, u, k);
          c.at(i, u, k) = z + h;
          const LossSums up = value_only(c);
          c.at(i, u, k) = z - h;
          const LossSums down = value_only(c);
          c.at(i, u, k) = z;
          const double derivative = (up.ce - down.ce + c.problem.alpha / 2 * (up.kl - down.kl)) / (2 * h);
          const double grad = got.grad[i * c.pass_stride + u * c.unit_stride + k];
          error = std::max(error, std::abs(derivative - grad));
          largest = std::max(largest, std::abs(grad));
        }
    CHECK(error < 1e-8 * largest + 1e-10);
  }
}

TEST_CASE("at m = 2 the loss is half of the paper's Eq. 4, and its KL Eq. 2") {
  Case c(2, 1, 11, 3);
  c.problem.divisor = 1;
  c.problem.alpha = 5;
  double z[2] = {0, 0}, symmetric = 0, nll = 0;
  for (int i = 0; i < 2; ++i)
    for (int64_t k = 0; k < 11; ++k) z[i] += std::exp(c.at(i, 0, k));
  for (int64_t k = 0; k < 11; ++k) {
    const double p = std::exp(c.at(0, 0, k)) / z[0], q = std::exp(c.at(1, 0, k)) / z[1];
    symmetric += 0.5 * (p - q) * (std::log(p) - std::log(q));
    if (k == c.target[0]) nll = -std::log(p) - std::log(q);
  }
  const Result got = run<double>(c);
  CHECK(got.sums.kl == doctest::Approx(symmetric).epsilon(1e-12));
  CHECK(got.loss(c.problem) == doctest::Approx((nll + 5 * symmetric) / 2).epsilon(1e-12));
}

// An error d of the log-normalisers adds d^2 to a KL. The sums of exponentials are taken in lanes, which
// keeps d below 1e-7; AddressSanitizer keeps the compiler from vectorising, and then they are taken one by
// one.
#ifdef __SANITIZE_ADDRESS__
constexpr double kSumRounding = 1e-6;
#else
constexpr double kSumRounding = 0;
#endif

TEST_CASE("a small KL survives f32: no cancellation, never negative") {
  for (int64_t m : {2, 3, 4, 6})
    for (double kl : {6e-5, 1e-5}) {
      Case c(m, 4, 10152, uint64_t(m), 3, std::sqrt(kl));
      for (double& z : c.logits) z = float(z);
      const double want = naive(c).sums.kl * c.problem.divisor / 4;
      CAPTURE(m);
      CHECK(want > kl / 2);
      CHECK(want < kl * 2);
      const double got = run<float>(c).sums.kl * c.problem.divisor / 4;
      CHECK(std::abs(got - want) < 1e-3 * want);
    }
  for (int64_t m : {2, 3, 5}) {
    for (uint64_t seed = 1; seed <= 3;
         ++seed) {  // KL of 1e-8: P_i - P_j, if subtracted, would be off by 1e-5
      Case small(m, 1, 1000, seed, 2, 1e-4);
      for (double& z : small.logits) z = float(z);
      const double want = naive(small).sums.kl;
      CHECK(std::abs(run<float>(small).sums.kl - want) < 4e-6 * want + kSumRounding * kSumRounding);
    }
    Case c(m, 4, 10152, 9, 3, 1e-7);  // differences at rounding level
    CHECK(run<float>(c).sums.kl >= 0);
    for (int64_t i = 1; i < m; ++i)
      std::copy_n(c.logits.begin(), c.pass_stride - 5, c.logits.begin() + i * c.pass_stride);
    CHECK(run<float>(c).sums.kl == 0);
  }
}

TEST_CASE("a KL around the size from which on inner products give it is as precise") {
  for (int64_t m : {2, 3, 5, 9})
    for (int64_t v : {20, 1000})
      for (double spread : {0.15, 0.2, 0.25, 0.3, 0.4}) {
        CAPTURE(m);
        CAPTURE(v);
        CAPTURE(spread);
        Case c(m, 1, v, uint64_t(100 * spread), 2, spread);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t k = 0; k < v; ++k) c.at(i, 0, k) = float(c.at(i, 0, k) + double(i));
        const double want = naive(c).sums.kl;
        CHECK(std::abs(run<float>(c).sums.kl - want) < 4e-6 * want);
      }
}

TEST_CASE("a unit's loss does not depend on the units beside it") {
  for (int64_t v : {10, 600}) {
    CAPTURE(v);
    Case c(3, 24, v, 11);  // every third with passes that nearly agree
    for (int64_t u = 0; u < 24; u += 3)
      for (int64_t i = 1; i < 3; ++i)
        for (int64_t k = 0; k < v; ++k) c.at(i, u, k) = c.at(0, u, k) + 1e-3 * c.at(i, u, k);
    const Result together = run<float>(c);
    LossSums sums;
    for (int64_t u = 0; u < 24; ++u) {
      Case alone = c;
      for (int64_t other = 0; other < 24; ++other) alone.valid[other] = other == u;
      const Result got = run<float>(alone);
      sums.ce += got.sums.ce, sums.kl += got.sums.kl;
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t k = 0; k < v; ++k) {
          const int64_t at = i * c.pass_stride + u * c.unit_stride + k;
          CHECK(got.grad[at] == together.grad[at]);
        }
    }
    CHECK(sums.ce == doctest::Approx(together.sums.ce).epsilon(1e-13));
    CHECK(sums.kl == doctest::Approx(together.sums.kl).epsilon(1e-13));
  }
}

TEST_CASE("rows that follow one another without gaps have the same gradient as others") {
  for (int64_t v : {1, 2, 3, 4, 10, 48, 600}) {
    CAPTURE(v);
    const Case dense(3, 37, v, 12, 2, 1, 0), apart(3, 37, v, 12);
    const Result got = run<float>(dense), want = run<float>(apart);
    CHECK(got.sums.ce == want.sums.ce);
    CHECK(got.sums.kl == want.sums.kl);
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t u = 0; u < 37; ++u)
        for (int64_t k = 0; k < v; ++k)
          CHECK(got.grad[i * dense.pass_stride + u * dense.unit_stride + k] ==
                want.grad[i * apart.pass_stride + u * apart.unit_stride + k]);
  }
}

TEST_CASE("f32 and bf16 agree with f64 on the same logits") {
  for (int64_t m : {1, 2, 3, 5})
    for (int64_t v : {3, 17, 1000, 2100}) {
      CAPTURE(m);
      CAPTURE(v);
      Case c(m, 9, v, uint64_t(v));
      c.problem.label_smoothing = 0.1;
      mask_some(c);
      exclude_some(c);
      for (double& z : c.logits) z = float(bf16(float(z)));
      const Result want = naive(c), single = run<float>(c), half = run<bf16>(c);
      double largest = 0;
      for (double g : want.grad) largest = std::max(largest, std::abs(g));
      for (const Result* got : {&single, &half}) {
        CHECK(got->sums.ce == doctest::Approx(want.sums.ce).epsilon(1e-6));
        CHECK(std::abs(got->sums.kl - want.sums.kl) <= 1e-5 * want.sums.kl);
        CHECK(got->sums.correct == want.sums.correct);
      }
      CHECK(gradient_error(c, single, want) < 2e-6 * largest);
      CHECK(gradient_error(c, half, want) < 4e-3 * largest);  // one rounding to 8 bits
      CHECK(gradient_error(c, run<float>(c, true), single, kNan) == 0);
      CHECK(gradient_error(c, run<bf16>(c, true), half, kNan) == 0);
    }
}

TEST_CASE("the bits do not depend on the number of threads") {
  const int threads = num_threads();
  Case c(2, 1100, 1000, 1);  // several chunks, and a gradient that is written past the caches
  for (int64_t i = 0; i < 2; ++i)
    for (const int64_t left_out : {0, 17, 999}) c.at(i, 500, left_out) = -kInf;
  c.target[500] = 3;
  std::vector<Result> results;
  for (int n : {1, 2, 3}) {
    set_num_threads(n);
    results.push_back(run<float>(c));
  }
  set_num_threads(threads);
  for (const Result& r : results) {
    CHECK(r.sums.ce == results[0].sums.ce);
    CHECK(r.sums.kl == results[0].sums.kl);
    CHECK(std::memcmp(r.grad.data(), results[0].grad.data(), r.grad.size() * sizeof(double)) == 0);
  }
  CHECK(gradient_error(c, run<float>(c, true), results[0], kNan) == 0);  // where it is not
}

TEST_CASE("logits of 1e4 do not overflow") {
  Case c(2, 3, 700, 4, 1e4, 10);
  for (double& z : c.logits) z = float(z);
  const Result got = run<float>(c), want = naive(c);
  CHECK(got.sums.ce == doctest::Approx(want.sums.ce).epsilon(1e-6));
  CHECK(got.sums.kl == doctest::Approx(want.sums.kl).epsilon(1e-5));
  CHECK(gradient_error(c, got, want) < 1e-4);
}

TEST_CASE("excluded classes stay out also where all others are far below or above zero") {
  for (double shift : {-1e5, -40.0, 1e5}) {
    CAPTURE(shift);
    Case c(2, 4, 600, 8);
    exclude_some(c);
    for (double& z : c.logits) z = float(z + shift);
    const Result got = run<float>(c), want = naive(c);
    CHECK(got.sums.ce == doctest::Approx(want.sums.ce).epsilon(1e-6));
    CHECK(got.sums.kl == doctest::Approx(want.sums.kl).epsilon(1e-5));
    CHECK(gradient_error(c, got, want) < 1e-5);
    for (int64_t k = 0; k < 600; ++k)
      if (c.at(0, 2, k) == -kInf) CHECK(got.grad[2 * c.unit_stride + k] == 0);
  }
}

TEST_CASE("equal largest logits: the first is the prediction") {
  Case c(2, 1, 4, 1);
  for (int64_t k = 0; k < 4; ++k) c.at(0, 0, k) = c.at(1, 0, k) = k == 0 ? 0 : 1;
  c.target[0] = 1;
  CHECK(run<float>(c).sums.correct == 2);
  c.target[0] = 2;
  CHECK(run<float>(c).sums.correct == 0);
}

TEST_CASE("what the loss is not defined for is a ValueError that says where") {
  const auto fails = [](auto&& spoil) {
    Case c(3, 4, 6, 2);
    c.target[2] = 1;
    spoil(c);
    return message_of([&] { run<float>(c); });
  };
  CHECK(fails([](Case& c) { c.at(1, 2, 4) = kInf; }) ==
        "rdrop_cross_entropy: logit is inf at unit 2, class 4, pass 1, expected a finite value or -inf");
  CHECK(fails([](Case& c) { c.at(1, 2, 4) = kNan; }) ==
        "rdrop_cross_entropy: logit is nan at unit 2, class 4, pass 1, expected a finite value or -inf");
  CHECK(fails([](Case& c) { c.at(2, 2, 4) = -kInf; }) ==
        "rdrop_cross_entropy: logit is -inf at unit 2, class 4, pass 2 but not in all passes, expected a "
        "class to be "
        "excluded in all passes or in none");
  CHECK(
      fails([](Case& c) { c.at(0, 2, 1) = c.at(1, 2, 1) = c.at(2, 2, 1) = -kInf; }) ==
      "rdrop_cross_entropy: the target's logit is -inf at unit 2, class 1, pass 0, expected a finite value");
  CHECK(fails([](Case& c) {
          for (int64_t k = 0; k < 6; ++k) c.at(1, 2, k) = -kInf;
        }) ==
        "rdrop_cross_entropy: all logits are -inf at unit 2, pass 1 (class 0 to 5), expected a finite one");
  CHECK(fails([](Case& c) { c.target[2] = 6; }) ==
        "rdrop_cross_entropy: target is 6 at unit 2, expected a class in [0, 6) or ignore_index -100");
  CHECK(fails([](Case& c) { c.target[2] = -1; }) ==
        "rdrop_cross_entropy: target is -1 at unit 2, expected a class in [0, 6) or ignore_index -100");
  CHECK(fails([](Case& c) { c.problem.alpha = -1; }) ==
        "rdrop_cross_entropy: alpha is -1, expected a finite value >= 0");
  CHECK(fails([](Case& c) { c.problem.divisor = 0; }) ==
        "rdrop_cross_entropy: divisor is 0, expected a finite value > 0");
  CHECK(fails([](Case& c) { c.problem.label_smoothing = 1.5; }) ==
        "rdrop_cross_entropy: label_smoothing is 1.5, expected a value in [0, 1]");
  CHECK(fails([](Case& c) { c.problem.passes = 0; }) == "rdrop_cross_entropy: passes is 0, expected >= 1");
  CHECK(fails([](Case& c) { c.problem.classes = 0; }) == "rdrop_cross_entropy: classes is 0, expected >= 1");
  // A unit that is not counted may hold anything, and the first unit in order is the one named.
  CHECK(fails([](Case& c) { c.valid[2] = 0, c.target[2] = 99, c.at(0, 2, 0) = kNan; }) == "no ValueError");
  CHECK(fails([](Case& c) { c.at(2, 3, 0) = kNan, c.at(2, 1, 5) = kNan; }) ==
        "rdrop_cross_entropy: logit is nan at unit 1, class 5, pass 2, expected a finite value or -inf");
}

TEST_CASE("without a counted unit every sum is 0, whatever the divisor") {
  Case c(2, 3, 5, 6);
  std::fill(c.valid.begin(), c.valid.end(), uint8_t{0});
  c.problem.divisor = 0;
  const Result got = run<float>(c);
  CHECK(got.sums.ce == 0);
  CHECK(got.sums.kl == 0);
  CHECK(got.sums.valid == 0);
  CHECK(std::count(got.grad.begin(), got.grad.end(), 0.0) == 2 * 3 * 5);
  c.problem.units = 0;
  CHECK(run<float>(c).sums.valid == 0);
}
