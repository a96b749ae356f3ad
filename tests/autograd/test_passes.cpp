// Passes and the noise that makes them.
#include <memory>
#include <set>
#include <thread>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/parallel.h"
#include "autograd/pass_context.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "autograd/used_ops.h"
#include "ops/arithmetic.h"
#include "ops/dropout.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

struct Count {
  int calls = 0;
  int passes = 0;  // of the last input
};

// x + 1, counting; it takes all passes at once, or not.
struct CountingBatched final : Op {
  Count* count;
  explicit CountingBatched(Count* count) : count(count) {}
  const char* name() const override { return "counting"; }
  Tensor forward(const Tensors& in) override {
    ++count->calls, count->passes = in[0].passes();
    return in[0] + 1.0;
  }
  Tensors vjp(const Tensor& g) override { return {g}; }
};
struct CountingSingle final : Op {
  static constexpr bool one_pass_at_a_time = true;
  Count* count;
  explicit CountingSingle(Count* count) : count(count) {}
  const char* name() const override { return "counting_single"; }
  Tensor forward(const Tensors& in) override {
    ++count->calls, count->passes = in[0].passes();
    return in[0] * in[1];
  }
  Tensors vjp(const Tensor& g) override { return {g, g}; }
};

Tensor iota(const Shape& shape) {
  return arange(1, 1.0 + static_cast<double>(shape.numel()), 1, {DType::f64}).reshape(shape);
}

// dropout of ones in a context: the mask, scaled.
Tensor mask(const PassOptions& options, const Shape& shape = {4, 100}, double p = 0.5) {
  PassContext context(options);
  return dropout(ones(shape), p);
}

}  // namespace

TEST_CASE("passes can be stacked, read and seen as a batch, with gradients") {
  const Tensor a = leaf({1, 2}), b = leaf({3, 4}), c = leaf({5, 6});
  const Tensor x = stack_passes({a, b, c});
  CHECK(x.passes() == 3);
  CHECK(x.shape() == Shape{2});
  CHECK(values(x.pass(1)) == Values{3, 4});
  const Tensor batch = x.passes_as_batch();
  CHECK(batch.passes() == 1);
  CHECK(batch.shape() == Shape{3, 2});
  CHECK(batch.raw() == x.raw());
  (batch * iota({3, 2})).sum().backward({}, {.retain_graph = true});
  CHECK(values(a.grad()) == Values{1, 2});
  CHECK(values(c.grad()) == Values{5, 6});
  x.pass(2).sum().backward();
  CHECK(values(b.grad()) == Values{3, 4});
  CHECK(values(c.grad()) == Values{6, 7});
  CHECK(a.pass(5).impl() == a.impl());
  const Tensor same = stack_passes({a, a, a});
  CHECK(same.impl()->storage == a.impl()->storage);
  a.grad() = Tensor();
  (same * same).passes_as_batch().sum().backward();
  CHECK(values(a.grad()) == Values{6, 12});
  check_throws<ValueError>("pass: index 3 of 3 passes", [&] { x.pass(3); });
  check_throws<ShapeError>("stack_passes: f64[1]", [&] { stack_passes({a, leaf({1})}); });
  check_throws<ShapeError>("stack_passes", [&] { stack_passes({a, x}); });
  check_throws<ShapeError>("stack_passes: no passes", [] { stack_passes({}); });
}

TEST_CASE("a shared tensor meets one of m passes: its gradient is summed over them, a broadcast one too") {
  const Tensor w = leaf({10, 20}), s = iota({}).requires_grad_();
  const Tensor x = stack_passes({tensor({1, 2}).to(DType::f64), tensor({3, 4}).to(DType::f64)});
  const Tensor y = w * x * s;
  CHECK(y.passes() == 2);
  CHECK(values(y) == Values{10, 40, 30, 80});
  y.passes_as_batch().sum().backward();
  CHECK(values(w.grad()) == Values{4, 6});
  CHECK(w.grad().passes() == 1);
  CHECK(s.grad().item() == 160);
  check_throws<ShapeError>("mul: inputs of 2 and of 3 passes", [&] { x* stack_passes({w, w, w}); });
}

TEST_CASE("reductions and reshapes stay within a pass") {
  const Tensor x = stack_passes({iota({2, 3}), iota({2, 3}) * 10.0});
  CHECK(x.sum().passes() == 2);
  CHECK(values(x.sum()) == Values{21, 210});
  CHECK(values(x.mean({0})) == Values{2.5, 3.5, 4.5, 25, 35, 45});
  CHECK(x.t().reshape({6}).passes() == 2);
  CHECK(values(x.t().reshape({6}).pass(1)) == Values{10, 40, 20, 50, 30, 60});
}

TEST_CASE("sums over passes of large tensors, whatever the order of dimensions") {
  const int64_t n = 5000;
  const Tensor big = stack_passes({iota({3, n}), iota({3, n}), iota({3, n})});
  CHECK(same_bits(sum_to(big, {3, n}, 1), iota({3, n}) * 3.0));
  CHECK(same_bits(sum_to(big, {n}, 1), (iota({n}) + double(n)) * 9.0));
  const Tensor turned = big.passes_as_batch().transpose(0, 2);  // [n, 3, 3], the rows of a copy side by side
  CHECK(same_bits(turned.sum({1, 2}), (iota({n}) + double(n)) * 9.0));
  CHECK(values(iota({n, 3}).sum({0})) == Values{37492500 - 0 + 5000, 37492500 + 10000, 37492500 + 15000});
}

TEST_CASE("before the first noise everything runs once, after it once for all passes") {
  Count prefix, suffix, single;
  PassContext context({.seed = 1, .count = 4});
  const Tensor x = ones({8, 3});
  const Tensor shared = apply<CountingBatched>({x}, &prefix);
  CHECK(shared.passes() == 1);
  const Tensor noisy = dropout(shared, 0.5);
  CHECK(noisy.passes() == 4);
  const Tensor y = apply<CountingBatched>({noisy}, &suffix);
  CHECK(prefix.calls == 1);
  CHECK(prefix.passes == 1);
  CHECK(suffix.calls == 1);
  CHECK(suffix.passes == 4);
  const Tensor z = apply<CountingSingle>({y, shared}, &single);  // its kernel knows no passes
  CHECK(single.calls == 4);
  CHECK(single.passes == 1);
  CHECK(z.passes() == 4);
  CHECK(same_bits(z, y * shared));
  check_throws<ShapeError>("counting_single: inputs of 4 and of 2 passes", [&] {
    apply<CountingSingle>({y, stack_passes({x, x})}, &single);
  });
}

TEST_CASE("stacked passes draw what single passes draw, bit for bit, and so do micro-batches") {
  for (const int64_t features : {int64_t{7}, int64_t{100}, int64_t{20'001}}) {
    const Tensor x = iota({6, features});
    for (const std::vector<double>& rates : {std::vector<double>{}, std::vector<double>{0.1, 0.5, 0, 0.9}}) {
      auto run = [&](int first, int count, int64_t offset, const Tensor& in) {
        PassContext context({.seed = 9,
                             .step = 3,
                             .first = first,
                             .count = count,
                             .rates = rates,
                             .sample_offset = static_cast<uint64_t>(offset)});
        return dropout(in, 0.3);
      };
      const Tensor all = run(0, 4, 100, x);
      REQUIRE(all.passes() == 4);
      for (int i = 0; i < 4; ++i) CHECK(same_bits(all.pass(i), run(i, 1, 100, x)));
      CHECK(same_bits(all.pass(2), run(1, 2, 100, x).pass(1)));
      for (int64_t at = 0; at < 6; at += 2) {
        const Tensor part = run(0, 4, 100 + at, x.slice(0, at, at + 2));
        for (int i = 0; i < 4; ++i) CHECK(same_bits(all.pass(i).slice(0, at, at + 2), part.pass(i)));
      }
    }
  }
}

TEST_CASE("`batch` tells the samples of a tensor whose first dimension is not the batch") {
  auto run = [](const Tensor& x, int64_t batch, uint64_t offset) {
    PassContext context({.seed = 2, .sample_offset = offset, .batch = batch});
    return dropout(x, 0.5);
  };
  const Tensor x = ones({12, 5});
  CHECK(same_bits(run(x, 4, 0), run(x.reshape({4, 15}), 0, 0).reshape({12, 5})));
  CHECK(same_bits(run(x, 4, 0).slice(0, 6, 12), run(x.slice(0, 6, 12), 2, 2)));
  check_throws<ShapeError>("dropout: 60 elements are not divisible among the 7 samples",
                           [&] { run(x, 7, 0); });
}

TEST_CASE("rates: per pass, scaled, and off") {
  const Tensor kept = mask({.seed = 1, .count = 3, .rates = {0, 0.5, 0.75}});
  CHECK(same_bits(kept.pass(0), ones({4, 100})));
  const std::vector<double> half = values(kept.pass(1)), quarter = values(kept.pass(2));
  CHECK(std::set<double>(half.begin(), half.end()) == std::set<double>{0, 2});
  CHECK(std::set<double>(quarter.begin(), quarter.end()) == std::set<double>{0, 4});
  PassContext context({.count = 2, .rates = {0.5, 0.5}});
  const Tensor x = ones({4});
  CHECK(dropout(x, 0).impl() == x.impl());  // a layer that is off stays off
  const Tensor scaled = mask({.seed = 1, .rate_scale = 1.5});
  CHECK(values(scaled.sum())[0] > 0);
  const std::vector<double> v = values(scaled);
  CHECK(*std::max_element(v.begin(), v.end()) == 4);  // 1 / (1 - 0.75)
  CHECK(same_bits(mask({.seed = 1, .rate_scale = 1.5}), mask({.seed = 1}, {4, 100}, 0.75)));
  CHECK(same_bits(mask({.seed = 1, .count = 2, .rate_scale = 0}), ones({4, 100})));
  CHECK(mask({.seed = 1, .count = 2, .rate_scale = 0}).passes() == 1);
}

TEST_CASE("no two passes, steps, seeds, sites or calls share a mask; the same context draws the same") {
  std::vector<Values> seen;
  auto add = [&](const Tensor& x) {
    for (int i = 0; i < x.passes(); ++i) seen.push_back(values(x.pass(i)));
  };
  add(mask({.seed = 1, .step = 1, .count = 3}));
  add(mask({.seed = 1, .step = 2}));
  add(mask({.seed = 2, .step = 1}));
  add(mask({.seed = 1, .step = 1, .sample_offset = 50}));
  const std::string path = "encoder.0.drop", other = "encoder.1.drop";
  {
    PassContext context({.seed = 1, .step = 1});
    Scope scope(path);
    add(dropout(ones({4, 100}), 0.5));
    add(dropout(ones({4, 100}), 0.5));  // the second call of this site
    Scope inner(other);
    add(dropout(ones({4, 100}), 0.5));
  }
  const std::set<Values> distinct(seen.begin(), seen.end());
  CHECK(distinct.size() == seen.size());
  // Samples of one batch differ, too.
  CHECK(!same_bits(mask({.seed = 1})[0], mask({.seed = 1})[1]));
  {
    PassContext context({.seed = 1, .step = 1});
    Scope scope(path);
    CHECK(values(dropout(ones({4, 100}), 0.5)) == seen[6]);
    CHECK(values(dropout(ones({4, 100}), 0.5)) == seen[7]);
  }
  CHECK(same_bits(mask({.seed = 1, .step = 1, .count = 3}), mask({.seed = 1, .step = 1, .count = 3})));
}

TEST_CASE("the backward draws the forward's mask again, also when the context is gone") {
  const Tensor x = full({6, 50}, 2, {DType::f64, kCpu, true});
  Tensor y;
  {
    PassContext context({.seed = 4, .count = 3, .rates = {0.2, 0.5, 0.8}});
    y = dropout(x, 0.1);
  }
  y.retain_grad();
  const Tensor g = iota({6, 50});
  (y * g).passes_as_batch().sum().backward();
  const Values out = values(y), weights = values(g), gradient = values(x.grad());
  for (size_t i = 0; i < 300; ++i) {
    double expected = 0;
    for (size_t pass = 0; pass < 3; ++pass) expected += out[pass * 300 + i] / 2 * weights[i];
    CHECK(gradient[i] == doctest::Approx(expected));
    CHECK((gradient[i] == 0) == (expected == 0));
  }
}

TEST_CASE("a tensor of m passes is dropped pass by pass") {
  PassContext context({.seed = 4, .count = 2});
  const std::string path = "a";
  Scope scope(path);
  const Tensor first = dropout(ones({3, 50}), 0.5), second = dropout(first, 0.5);
  CHECK(second.passes() == 2);
  PassContext again({.seed = 4, .first = 1, .count = 1});
  const Tensor one = dropout(ones({3, 50}), 0.5);
  CHECK(same_bits(dropout(one, 0.5), second.pass(1)));
  check_throws<ShapeError>("dropout: f32[3,50] x 2 passes in a context of 1 passes",
                           [&] { dropout(first, 0.5); });
}

TEST_CASE("contexts nest, and refuse what they cannot run") {
  CHECK(PassContext::current() == nullptr);
  {
    PassContext outer({.seed = 1});
    {
      PassContext inner({.seed = 2});
      CHECK(PassContext::current() == &inner);
    }
    CHECK(PassContext::current() == &outer);
    check_throws<ConfigError>("passes: expected 1 to 65536 of them, got 0 from 0",
                              [] { const PassContext none({.count = 0}); });
    CHECK(PassContext::current() == &outer);
  }
  check_throws<ConfigError>("passes: expected",
                            [] { const PassContext none({.first = 65'535, .count = 2}); });
  check_throws<ConfigError>("rates: expected one for each of 3 passes, got 2", [] {
    const PassContext none({.count = 3, .rates = {0.1, 0.2}});
  });
  check_throws<ConfigError>("rates: expected a rate in [0, 1), got 1",
                            [] { const PassContext none({.rates = {1}}); });
  check_throws<ConfigError>("rate_scale", [] { const PassContext none({.rate_scale = -1}); });
  check_throws<ConfigError>("rate_scale: expected a rate in [0, 1), got 1", [] {
    PassContext context({.rate_scale = 2});
    dropout(ones({2}), 0.5);
  });
  check_throws<AutogradError>("dropout: noise outside of a PassContext", [] { dropout(ones({2}), 0.5); });
}

TEST_CASE("scopes are those of their thread, and close in any order there") {
  const auto masks = [] { return dropout(ones({64}), 0.5).to_vector<float>(); };
  auto outer = std::make_unique<PassContext>(PassOptions{.seed = 1});
  const std::vector<float> expected = masks();
  bool refused = false, records = false;
  std::vector<float> elsewhere;
  const NoGradGuard no_grad;
  std::thread([&] {
    records = grad_enabled();
    try {
      masks();
    } catch (const AutogradError& error) {
      refused = std::string(error.what()).find("on the thread that runs the model") != std::string::npos;
    }
    const PassContext own({.seed = 1});
    elsewhere = masks();
  }).join();
  CHECK((refused && records && !grad_enabled()));
  CHECK(elsewhere == expected);
  auto inner = std::make_unique<PassContext>(PassOptions{.seed = 2});
  outer.reset();
  CHECK(PassContext::current() == inner.get());
  inner.reset();
  CHECK(PassContext::current() == nullptr);
  auto off = std::make_unique<GradMode>(false), on = std::make_unique<GradMode>(true);
  off.reset();
  CHECK(grad_enabled());
  on.reset();
  CHECK(!grad_enabled());  // no_grad is open yet
}

TEST_CASE("dropout and sums give the same bits for one thread and for several") {
  const int threads = num_threads();
  const Tensor x = iota({300, 1001}) * 1e-3;
  auto run = [&](int n) {
    set_num_threads(n);
    Tensors results;
    PassContext context({.seed = 8, .count = 3});
    const Tensor leaf = x.to(DType::f32).requires_grad_(), y = dropout(leaf, 0.3);
    (y * y).passes_as_batch().mean().backward();
    results = {y,
               leaf.grad(),
               y.sum(),
               y.sum({0}),
               y.sum({1}),
               sum_to(y, {1001}, 1),
               sum_to(y, {300, 1}, 1),
               y.passes_as_batch().transpose(0, 2).sum({1}),
               y.mean()};
    set_num_threads(threads);
    return results;
  };
  const Tensors one = run(1), two = run(2), five = run(5);
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(same_bits(one[i], two[i]));
    CHECK(same_bits(one[i], five[i]));
  }
}
