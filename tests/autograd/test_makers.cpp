// Makers of tensors: by value, as they are written, at random.
#include <cmath>
#include <thread>

#include "autograd/parallel.h"
#include "autograd/random.h"
#include "ops/arithmetic.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

// Whether an expression compiles.
template <class T>
concept tensor_of_text = requires(T text) {
  tensor({text});
};
static_assert(!tensor_of_text<const char*>);

}  // namespace

TEST_CASE("makers") {
  CHECK(values(zeros({2, 2})) == Values{0, 0, 0, 0});
  CHECK(values(full({2}, 2.5, {DType::bf16})) == Values{2.5, 2.5});
  CHECK(values(eye(2)) == Values{1, 0, 0, 1});
  CHECK(values(arange(1, 2, 0.25)) == Values{1, 1.25, 1.5, 1.75});
  CHECK(values(arange(3, 0, -1, {DType::i32})) == Values{3, 2, 1});
  CHECK(arange(2, 2).numel() == 0);
  CHECK(values(arange(3)) == Values{0, 1, 2});
  CHECK(arange(3, {DType::i64}).dtype() == DType::i64);
  CHECK(values(tensor({1, 2, 3, 4}, {2, 2})[1]) == Values{3, 4});
  CHECK(scalar(7).dim() == 0);
  CHECK(scalar(7).item() == 7);
  CHECK(empty({2, 3}, {}, 4).passes() == 4);
  CHECK(ones({2}, {DType::f32, kCpu, true}).requires_grad());
  CHECK(zeros({0, 3}).numel() == 0);
  check_throws<ShapeError>("from_values: 3 values for shape [2]", [] { from_values(Values{1, 2, 3}, {2}); });
  check_throws<ShapeError>("empty: a size is negative: [2,-1]", [] { empty({2, -1}); });
  check_throws<ShapeError>("empty: a size is negative", [] { from_values(Values{1}, {-1, -1}); });
  check_throws<ValueError>("arange: no values from 0 to 3 by -1", [] { arange(0, 3, -1); });
  check_throws<ValueError>("arange", [] { arange(0, INFINITY); });
  check_throws<ShapeError>("at least one pass", [] { empty({2}, {}, 0); });
}

TEST_CASE("linspace, full_like") {
  CHECK(values(linspace(0, 1, 5)) == Values{0, 0.25, 0.5, 0.75, 1});
  CHECK(values(linspace(3, -3, 3, {DType::i64})) == Values{3, 0, -3});
  CHECK(values(linspace(2, 5, 1)) == Values{2});
  CHECK(linspace(0, 1, 0).shape() == Shape{0});
  const Values tenths = values(linspace(0.1, 0.7, 7, {DType::f64}));  // both ends exactly
  CHECK((tenths.front() == 0.1 && tenths.back() == 0.7));
  check_throws<ValueError>("linspace: expected a number of steps from 0, got -1", [] { linspace(0, 1, -1); });
  check_throws<DTypeError>("linspace: 0.5 with a tensor of i64", [] { linspace(0, 1, 3, {DType::i64}); });
  const Tensor like = full_like(empty({2}, {DType::bf16}, 3), 2.5);
  CHECK(std::string(describe(like)) == "bf16[2] x 3 passes");
  CHECK(values(like) == Values(6, 2.5));
  check_throws<DTypeError>("2.5 with a tensor of i64", [] { full_like(zeros({2}, {DType::i64}), 2.5); });
}

TEST_CASE("tensor() reads numbers as they are written") {
  const auto is = [](const Tensor& x, const std::string& type, const Values& expected) {
    CHECK(std::string(describe(x)) == type);
    CHECK(values(x) == expected);
  };
  is(tensor({1, 2, 3}), "f32[3]", {1, 2, 3});
  is(tensor({{1, 2}, {3, 4.5}}), "f32[2,2]", {1, 2, 3, 4.5});
  is(tensor({{1, 2}}), "f32[1,2]", {1, 2});
  is(tensor({{1}, {2}}), "f32[2,1]", {1, 2});
  is(tensor({{{1, 2, 3}, {4, 5, 6}}, {{7, 8, 9}, {10, 11, 12}}}), "f32[2,2,3]",
     {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  is(tensor(7), "f32[]", {7});
  is(tensor({}), "f32[0]", {});
  is(tensor({{}, {}}), "f32[2,0]", {});
  is(tensor({true, false}), "bool[2]", {1, 0});
  is(tensor({{true, 2}}), "f32[1,2]", {1, 2});
  is(tensor({0, 2}, {DType::i64}), "i64[2]", {0, 2});
  is(tensor({{0.5, 2}}, {.dtype = DType::f64}), "f64[1,2]", {0.5, 2});
  is(tensor({1, 2, 3, 4}, {2, 2}), "f32[2,2]", {1, 2, 3, 4});
  const int n = 3;
  const float half = 0.5F;
  const size_t size = 9;
  is(tensor({n, half, size, 0.25}), "f32[4]", {3, 0.5, 9, 0.25});
  CHECK(tensor({0.1}, {DType::f64}).item() == 0.1);
  CHECK(tensor({1, 2}, {.requires_grad = true}).requires_grad());
  check_throws<ShapeError>("tensor: row 1 has shape [1], row 0 has [2]", [] { tensor({{1, 2}, {3}}); });
  check_throws<ShapeError>("tensor: row 2 has shape [], row 0 has [1]", [] { tensor({{1}, {2}, 3}); });
  check_throws<ShapeError>("tensor: row 1 has shape [1,2], row 0 has [2,2]", [] {
    tensor({{{1, 2}, {3, 4}}, {{5, 6}}});
  });
  check_throws<ShapeError>("tensor: 3 values for shape [2]", [] { tensor({1, 2, 3}, {2}); });
  check_throws<DTypeError>("tensor: 0.5 with a tensor of i64", [] { tensor({0.5}, {DType::i64}); });
  check_throws<ValueError>("tensor: 1e+39 is beyond the range of f32", [] { tensor({1e39}); });
  check_throws<ValueError>("has no exact f64: use from_values", [] { tensor({(int64_t{1} << 53) + 1}); });
  is(from_values(std::vector<bool>{true, false, true, true}, {2, 2}), "bool[2,2]", {1, 0, 1, 1});
}

TEST_CASE("random makers: known answers, which are frozen") {
  // By the definitions of autograd/noise.h, in Python.
  CHECK(values(rand({3}, {.seed = 42, .dtype = DType::f64})) ==
        Values{0x1.d15f0563b3f80p-2, 0x1.3e076031b8b47p-1, 0x1.474528a803d05p-1});
  CHECK(values(randint(1000, {6}, {.seed = 42})) == Values{863, 45, 656, 380, 932, 973});
  const Values normal = values(randn({2}, {.seed = 42, .dtype = DType::f64}));
  CHECK(normal[0] == doctest::Approx(0.5579261598622343).epsilon(1e-14));
  CHECK(normal[1] == doctest::Approx(-1.1355386710406679).epsilon(1e-14));
  const SeedScope seeds(42);
  CHECK(values(randint(1000, {6})) == Values{863, 45, 656, 380, 932, 973});  // call 0
  CHECK(values(rand({3}, {.dtype = DType::f64})) ==
        Values{0x1.db454ddbd0ed6p-2, 0x1.9809897eb97a5p-1, 0x1.423d9f2d7d2e0p-2});  // call 1
}

TEST_CASE("random makers: of a seed, or numbered in a scope") {
  const auto same = [](const Tensor& a, const Tensor& b) { return same_bits(a, b); };
  CHECK(same(randn({5}, {.seed = 1}), randn({5}, {.seed = 1})));
  CHECK(!same(randn({5}, {.seed = 1}), randn({5}, {.seed = 2})));
  CHECK(same(rand({3, 2}, {.seed = 1}), rand({6}, {.seed = 1}).reshape({3, 2})));
  Tensor first, second, inner;
  {
    const SeedScope seeds(7);
    first = randn({4});
    {
      const SeedScope deeper(8);
      inner = randn({4});
    }
    CHECK(same(rand({4}, {.seed = 9}), rand({4}, {.seed = 9})));  // does not count
    second = randn({4});
  }
  CHECK(!same(first, second));
  CHECK(same(first, randn({4}, {.seed = 7})));
  CHECK(same(inner, randn({4}, {.seed = 8})));
  const SeedScope again(7);
  CHECK((same(randn({4}), first) && same(randn({4}), second)));
  std::thread([] {
    check_throws<ConfigError>("randn: there is no seed: write randn(..., {.seed = 42}), or open a SeedScope",
                              [] { randn({2}); });
  }).join();
}

TEST_CASE("random makers: dtypes, ranges, any number of threads") {
  const SeedScope seeds(3);
  for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    const Tensor u = rand({50'000}, {.dtype = dtype}), z = randn({50'000}, {.dtype = dtype});
    double low = 1, high = 0, mean = 0, squares = 0;
    for (double v : values(u)) low = std::min(low, v), high = std::max(high, v);
    for (double v : values(z)) mean += v / 50'000, squares += v * v / 50'000;
    CHECK((u.dtype() == dtype && low >= 0 && low < 0.001 && high < 1 && high > 0.99));
    CHECK((std::abs(mean) < 0.02 && std::abs(squares - 1) < 0.03));
  }
  CHECK(same_bits(rand({9}, {.seed = 1}), rand({9}, {.seed = 1, .dtype = DType::f64}).to(DType::f32)));
  std::vector<int> seen(6);
  for (double v : values(randint(-2, 4, {6000}))) ++seen.at(static_cast<size_t>(v + 2));
  for (int count : seen) CHECK((count > 850 && count < 1150));
  CHECK(randint(5, {2}).dtype() == DType::i64);
  CHECK(randint(5, {2}, {.dtype = DType::f32}).dtype() == DType::f32);
  // In the order of zeros(), too.
  CHECK(rand({2}, {DType::f64}).dtype() == DType::f64);
  CHECK(randn({2}, {DType::f64, kCpu, true}).requires_grad());
  CHECK(randint(5, {2}, {DType::u8}).dtype() == DType::u8);
  CHECK(randint(2, 5, {2}, {DType::i32, kCpu}).dtype() == DType::i32);
  const auto first = [](auto make) {
    const SeedScope of_one(4);
    return make();
  };
  CHECK(same_bits(first([] { return randn({3}, {DType::f64}); }),
                  first([] { return randn({3}, {.dtype = DType::f64}); })));
  CHECK(values(randint(INT64_MIN, INT64_MIN + 1, 2)) == Values(2, -0x1p63));
  CHECK(randint(INT64_MAX - 1, INT64_MAX, 1).item<int64_t>() == INT64_MAX - 1);
  CHECK((randn({2}, {.requires_grad = true}).requires_grad() && rand({0, 3}).numel() == 0));

  const int threads = num_threads();
  Tensors one, four;
  for (Tensors* results : {&one, &four}) {
    set_num_threads(results == &one ? 1 : 4);
    const SeedScope scope(1);
    *results = {rand({100'003}), randn({100'003}), randint(1'000'000, {100'003})};
  }
  set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], four[i]));

  check_throws<DTypeError>("rand: expected a floating dtype, got i64",
                           [] { rand({2}, {.dtype = DType::i64}); });
  check_throws<ValueError>("randint: no whole number from 3 to below 3", [] { randint(3, 3, {2}); });
  check_throws<DTypeError>("randint: 299 with a tensor of u8",
                           [] { randint(300, {2}, {.dtype = DType::u8}); });
}
