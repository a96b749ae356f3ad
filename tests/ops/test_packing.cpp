// Packed rows against the padded tensors that they leave padding out of: the same masks and results.
#include "ops/packing.h"

#include <doctest/doctest.h>

#include <limits>

#include "autograd/parallel.h"
#include "ops/arithmetic.h"
#include "ops/attention.h"
#include "ops/comparison.h"
#include "ops/drop_path.h"
#include "ops/dropout.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

// Six samples of up to nine positions: padding behind, in front, on both sides, nothing else, none; one row.
const PackedRows& queries() {
  static const PackedRows rows({{0, 5}, {2, 9}, {3, 6}, {4, 4}, {0, 9}, {8, 9}}, 9);
  return rows;
}
const PackedRows& keys() {  // of as many samples
  static const PackedRows rows({{1, 7}, {0, 4}, {5, 7}, {0, 2}, {0, 7}, {0, 1}}, 7);
  return rows;
}

// Numbers at the rows, `elsewhere` at the other positions.
Tensor padded(const PackedRows& rows, int64_t heads, int64_t dim, uint64_t seed, double elsewhere) {
  const Tensor x = normal({rows.rows(), heads, dim}, seed, DType::f64);
  const Tensor here = pad_packed(ones({rows.rows(), 1, 1}, {DType::f64}), rows);
  return where(here == 1, pad_packed(x, rows), elsewhere);
}

// What f makes of x, packed or not, and its gradient for the cotangent v.
template <class F> Tensors with_gradient(const F& f, const Tensor& x, const Tensor& v) {
  const Tensor leaf = x.detach().requires_grad_(), y = f(leaf);
  y.backward(v);
  return {y.detach(), leaf.grad()};
}

}  // namespace

TEST_CASE("packed rows: dropout and drop_path have the masks of the padded tensor") {
  const Tensor x = padded(queries(), 2, 7, 1, 0);
  for (const int64_t batch : {0, 6, 3}) {  // 3: two rows of the batch are a sample
    using Drop = Tensor (*)(const Tensor&, double);
    for (const Drop drop : {Drop(dropout), Drop(drop_path)}) {
      const PassOptions passes{
          .seed = 4, .count = 3, .rates = {0.5, 0, 0.2}, .sample_offset = 11, .batch = batch};
      const auto run = [&](const PackedRows& rows) {
        return [&passes, &rows, drop](const Tensor& y) {
          const PackedScope packed(rows);
          const PassContext context(passes);
          return drop(y, 0.4);
        };
      };
      const Tensor v = padded(queries(), 2, 7, 2, 0);
      const Tensors whole = with_gradient(run({}), x, stack_passes({v, v, v}));
      const Tensor small = pack_padded(v, queries());
      const Tensors packed =
          with_gradient(run(queries()), pack_padded(x, queries()), stack_passes({small, small, small}));
      REQUIRE(packed[0].passes() == 3);
      CHECK(!same_bits(packed[0].pass(0), packed[0].pass(1)));
      for (int i = 0; i < 2; ++i) CHECK(same_bits(packed[i], pack_padded(whole[i], queries())));
    }
  }
}

TEST_CASE("packed rows: attention is the padded one, with its noise; what padding holds is not read") {
  std::vector<uint8_t> hidden(keys().rows());
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = i % 4 == 1;
  const Tensor holes = from_values(hidden, {keys().rows()}).to(DType::boolean);
  const Tensor words = pad_packed(ones({keys().rows()}, {DType::boolean}), keys());
  for (const bool causal : {false, true}) {
    for (const bool masked : {false, true}) {
      for (const int64_t batch : {0, 2}) {
        INFO((causal ? "causal" : "not causal"), (masked ? ", masked" : ""), ", batch ", batch);
        const PassOptions passes{.seed = 3, .count = 2, .sample_offset = 5, .batch = batch};
        const AttentionOptions options{.causal = causal, .dropout = 0.4};
        const auto run = [&](bool packed, const Tensors& in, const Tensor& v) {
          Tensors leaves;
          for (const Tensor& x : in) leaves.push_back(x.detach().requires_grad_());
          const PassContext context(passes);
          Tensor y;
          if (packed) {
            y = packed_attention(leaves[0], leaves[1], leaves[2], queries(), keys(), options,
                                 masked ? holes : Tensor());
          } else {
            const auto heads = [](const Tensor& x) { return transpose(x, 1, 2); };
            Tensor mask = logical_not(words);
            if (masked) mask = logical_or(mask, pad_packed(holes, keys()));
            y = transpose(attention(heads(leaves[0]), heads(leaves[1]), heads(leaves[2]), options, mask), 1,
                          2);
          }
          y.backward(v);
          return Tensors{y.detach(), leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
        };
        const Tensor v = padded(queries(), 3, 6, 4, 0);
        const auto both = [](const Tensor& x) { return stack_passes({x, 0.5 * x}); };
        const auto inputs = [](double elsewhere) {
          return Tensors{padded(queries(), 3, 5, 1, elsewhere), padded(keys(), 3, 5, 2, elsewhere),
                         padded(keys(), 3, 6, 3, elsewhere)};
        };
        const Tensors whole = run(false, inputs(0), both(v)), poisoned = inputs(kNan);
        const Tensors packed = run(true,
                                   {pack_padded(poisoned[0], queries()), pack_padded(poisoned[1], keys()),
                                    pack_padded(poisoned[2], keys())},
                                   both(pack_padded(v, queries())));
        for (int i = 0; i < 4; ++i) {
          const Tensor expected = pack_padded(whole[i], i < 2 ? queries() : keys());
          CHECK(expected.to_vector<double>() != zeros_like(expected).to_vector<double>());
          CHECK_MESSAGE(difference(packed[i], expected) < 1e-14, "result ", i);
        }
      }
    }
  }
}

TEST_CASE("packed rows: the same bits for any number of threads") {
  std::vector<PackedRows::Range> ranges;
  for (int64_t i = 0; i < 40; ++i) ranges.push_back({i % 3, 3 + i * 5 % 61});
  const PackedRows rows(ranges, 70);
  const auto run = [&](int threads) {
    set_num_threads(threads);
    const Tensor x = normal({rows.rows(), 3, 16}, 1).requires_grad_();
    const PackedScope packed(rows);
    const PassContext context({.seed = 1, .count = 2});
    const Tensor y = dropout(packed_attention(x, x, x, rows, rows, {.dropout = 0.1}), 0.3);
    pad_packed(y, rows).backward(cotangent_like(pad_packed(y.detach(), rows), 2));
    return Tensors{y.detach(), x.grad()};
  };
  const int before = num_threads();
  const Tensors one = run(1), four = run(4);
  set_num_threads(before);
  for (int i = 0; i < 2; ++i) CHECK(same_bits(one[i], four[i]));
}

TEST_CASE("packed rows: a scope is the thread's innermost, and its rows are the first dimension") {
  CHECK(!PackedScope::rows().defined());
  const PackedScope outer(queries(), keys());
  CHECK(PackedScope::rows().rows() == queries().rows());
  CHECK(PackedScope::memory().rows() == keys().rows());
  {
    const PackedScope inner({});
    CHECK(!PackedScope::rows().defined());
  }
  const PassContext context({.seed = 1});
  check_throws<ShapeError>(
      "dropout: [6,9] within a PackedScope, expected 25 rows, those of the words of 6 samples", [] {
        dropout(ones({6, 9}), 0.5);
      });
  const PassContext other({.seed = 1, .batch = 4});
  check_throws<ShapeError>("6 elements are not divisible among the 4 samples of the batch", [] {
    dropout(ones({queries().rows(), 9}), 0.5);
  });
}
