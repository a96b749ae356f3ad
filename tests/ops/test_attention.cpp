// Attention against its composed twin, and what its noise must not depend on.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/parallel.h"
#include "ops/arithmetic.h"
#include "ops/attention.h"
#include "ops/comparison.h"
#include "ops/join.h"
#include "ops/matmul.h"
#include "ops/softmax.h"
#include "ops/views.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// keep / (1 - p) for every (pass, sample, head, query, key), each drawn on its own.
Tensor kept(const Noise& noise, int64_t batch, int64_t heads, int64_t queries, int64_t keys) {
  Tensors passes;
  for (int pass = 0; pass < noise.passes(); ++pass) {
    std::vector<double> values;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t q = 0; q < queries; ++q)
          for (int64_t k = 0; k < keys; ++k) {
            const uint64_t position = (uint64_t(h) << 40) + (uint64_t(q) << 20) + uint64_t(k);
            const uint32_t word =
                single_draw(noise.key, noise.first_pass + pass, noise.sample_offset + b, position);
            const double p = noise.rates[pass];
            values.push_back(word >= drop_threshold(p) ? kept_scale(p) : 0);
          }
    passes.push_back(from_values(values, {batch, heads, queries, keys}));
  }
  return stack_passes(passes);
}

// The definition, in other ops. Every query must see a key.
Tensor attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                           const Tensor& mask, const Noise& noise) {
  const double inf = std::numeric_limits<double>::infinity();
  Tensor scores =
      matmul(q, transpose(k, 2, 3)) * (options.scale > 0 ? options.scale : 1 / std::sqrt(q.size(3)));
  if (mask.defined()) scores = masked_fill(scores, mask.unsqueeze(1).unsqueeze(1), -inf);
  if (options.causal) {
    const Tensor t = arange(0, q.size(2), 1, {DType::f64}).unsqueeze(1),
                 s = arange(0, k.size(2), 1, {DType::f64});
    scores = masked_fill(scores, gt(s, t), -inf);
  }
  Tensor p = softmax(scores, -1);
  if (noise.active()) p = p * kept(noise, q.size(0), q.size(1), q.size(2), k.size(2)).to(p.dtype());
  return matmul(p, v);
}

struct Problem {
  Tensor q, k, v;
};
// As three slices of one projection [B, T, 3, H, D] would be: strided views.
Problem strided_problem(int64_t b, int64_t h, int64_t t, int64_t d, int passes, uint64_t seed) {
  const Tensor x = cotangent_like(empty({b, t, 3, h, d}, {DType::f64}, passes), seed);
  auto part = [&](int64_t i) { return transpose(select(x, 2, i), 1, 2); };
  return {part(0), part(1), part(2)};
}

// Output and gradients of f for the cotangent v.
template <class F> Tensors run(const F& f, const Problem& x, uint64_t seed) {
  const Tensor q = x.q.detach().requires_grad_(), k = x.k.detach().requires_grad_(),
               v = x.v.detach().requires_grad_();
  const Tensor out = f(q, k, v);
  out.backward(cotangent_like(out, seed));
  return {out.detach(), q.grad(), k.grad(), v.grad()};
}

void check_close(const Tensors& a, const Tensors& b, double tolerance) {
  for (size_t i = 0; i < a.size(); ++i) {
    const Closeness c = close(a[i].to(DType::f64), b[i].to(DType::f64), tolerance);
    CHECK_MESSAGE(c.close, (i == 0 ? "output" : "gradient"), " ", i, ": ", c.message);
  }
}

}  // namespace

TEST_CASE("attention equals its composed twin: sizes around tiles and vectors, masks, dropout, passes") {
  for (const int64_t t : {1, 7, 33, 65, 300}) {
    for (const bool causal : {false, true}) {
      for (const int passes : {1, 2}) {
        INFO("T ", t, causal ? ", causal" : "", ", passes of the inputs ", passes);
        const Problem x = strided_problem(2, t > 100 ? 1 : 2, t, 19, passes, 3);
        std::vector<uint8_t> hidden(2 * t);
        for (int64_t i = 0; i < t; ++i) hidden[i] = i % 3 == 1, hidden[t + i] = i > 0 && i >= t - 5;
        const Tensor mask = from_values(hidden, {2, t}).to(DType::boolean);
        PassContext context({.seed = 4, .count = 2, .rates = {0.3, 0.6}, .sample_offset = 9});
        const Noise noise = context.noise(Purpose::dropout, 0.5);
        const AttentionOptions options{.scale = 0.3, .causal = causal};
        auto fused = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
          return attention(q, k, v, options, mask, noise);
        };
        auto composed = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
          return attention_reference(q, k, v, options, mask, noise);
        };
        const Tensors expected = run(composed, x, 5);
        check_close(run(fused, x, 5), expected, 1e-11);
        const Problem narrow{x.q.to(DType::f32), x.k.to(DType::f32), x.v.to(DType::f32)};
        check_close(run(fused, narrow, 5), expected, 1e-5);
      }
    }
  }
}

TEST_CASE("attention of one query, not recorded, equals its composed twin") {
  for (const int64_t keys : {1, 7, 33, 65, 300}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      SampleMaker make(keys, DType::f64, kCpu);
      const auto narrow = [&](const Tensor& x) { return x.to(dtype); };
      const Tensor q = narrow(make.normal({2, 3, 1, 19})), k = narrow(make.normal({2, 3, keys, 19})),
                   v = narrow(transpose(make.normal({2, keys, 3, 18}), 1, 2));
      std::vector<uint8_t> hidden(2 * keys);
      for (int64_t i = 0; i < keys; ++i) hidden[i] = i % 3 == 1, hidden[keys + i] = i > 0 && i >= keys - 5;
      const Tensor mask = from_values(hidden, {2, keys}).to(DType::boolean);
      PassContext context({.seed = 4, .count = 2, .rates = {0.3, 0.6}});
      const auto wide = [](const Tensor& x) { return x.to(DType::f64); };
      for (const double rate : {0.0, 0.5}) {
        const Noise noise = rate > 0 ? context.noise(Purpose::dropout, rate) : Noise{};
        const Closeness c =
            close(wide(attention(q, k, v, {}, mask, noise)),
                  attention_reference(wide(q), wide(k), wide(v), {.scale = 1 / std::sqrt(19.0)}, mask, noise),
                  dtype == DType::f64   ? 1e-12
                  : dtype == DType::f32 ? 1e-5
                                        : 1e-2);
        CHECK_MESSAGE(c.close, keys, " keys, ", name_of(dtype), ": ", c.message);
      }
    }
  }
}

TEST_CASE("padding a batch changes neither attention's results nor its noise") {
  const Problem x = strided_problem(2, 2, 9, 4, 1, 6);
  const PassOptions passes{.seed = 1, .count = 2};
  auto drop = [&](const Problem& y, const Tensor& mask) {
    PassContext context(passes);
    return attention(y.q, y.k, y.v, {.dropout = 0.5}, mask);
  };
  const Tensor expected = drop(x, {});
  auto longer = [&](const Tensor& y) {
    const Tensor wide = full({2, 2, 14, 4}, 7.5, {DType::f64});
    slice(wide, 2, 0, 9).copy_(y);
    return wide;
  };
  const Tensor behind = slice(arange(0, 28, 1, {DType::f64}).reshape({2, 14}), 0, 0, 1);
  const Tensor mask = ge(expand(behind, {2, 14}), 9);
  const Tensor out = drop({longer(x.q), longer(x.k), longer(x.v)}, mask);
  CHECK(same_bits(slice(out, 2, 0, 9), expected));
}

TEST_CASE("attention's samples, heads and passes have masks of their own, equal for any split of the batch") {
  const Tensor zero = zeros({4, 2, 6, 1}, {DType::f64}), one = ones({4, 2, 6, 1}, {DType::f64});
  PassContext whole({.seed = 3, .count = 2});
  const Noise noise = whole.noise(Purpose::dropout, 0.5);
  const Tensor out = attention(zero, zero, one, {}, {}, noise);
  REQUIRE(out.passes() == 2);
  CHECK(!same_bits(out.pass(0), out.pass(1)));
  CHECK(!same_bits(select(out, 0, 0), select(out, 0, 1)));
  CHECK(!same_bits(select(out, 1, 0), select(out, 1, 1)));
  PassContext part({.seed = 3, .first = 1, .count = 1, .sample_offset = 2});
  const Noise late = part.noise(Purpose::dropout, 0.5);
  const Tensor z = slice(zero, 0, 2, 4), later = attention(z, z, slice(one, 0, 2, 4), {}, {}, late);
  CHECK(same_bits(later, slice(out.pass(1), 0, 2, 4)));
}

TEST_CASE("a query without a key gets zeros and gives no gradient, among others that do") {
  Problem x = strided_problem(2, 1, 3, 2, 1, 8);
  const Tensor mask = from_values(std::vector<uint8_t>{1, 1, 1, 0, 0, 1}, {2, 3}).to(DType::boolean);
  const Tensors result = run([&](auto&... in) { return attention(in..., {}, mask); }, x, 2);
  for (const Tensor& y : result) {
    for (double value : select(y, 0, 0).to_vector<double>()) CHECK(value == 0);
    CHECK(std::abs(select(y, 0, 1).sum().item()) > 0);
  }
}

TEST_CASE("attention gives the same bits for any number of threads; heads are stored inside of rows") {
  const Problem x = strided_problem(5, 3, 65, 16, 2, 9);
  const Problem narrow{x.q.to(DType::f32), x.k.to(DType::f32), x.v.to(DType::f32)};
  PassContext context({.seed = 2, .count = 2});
  const Noise noise = context.noise(Purpose::dropout, 0.1);
  auto fused = [&](auto&... in) { return attention(in..., {}, {}, noise); };
  const int threads = num_threads();
  set_num_threads(1);
  const Tensors one = run(fused, narrow, 1);
  set_num_threads(4);
  const Tensors four = run(fused, narrow, 1);
  set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], four[i]));
  const Tensor joined = transpose(one[0], 1, 2).view({5, 65, 48});  // throws where it would have to copy
  CHECK(joined.is_contiguous());
}

TEST_CASE("attention with more keys than queries, and fewer: query t sees the keys up to t") {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{3, 7}, {1, 5}, {7, 3}, {30, 70}}) {
    INFO(queries, " queries, ", keys, " keys");
    const Problem x{cotangent_like(empty({2, 2, queries, 5}, {DType::f64}), 1),
                    cotangent_like(empty({2, 2, keys, 5}, {DType::f64}), 2),
                    cotangent_like(empty({2, 2, keys, 4}, {DType::f64}), 3)};
    const AttentionOptions options{.causal = true};
    const auto fused = [&](auto&... in) { return attention(in..., options); };
    const auto composed = [&](auto&... in) { return attention_reference(in..., options, {}, {}); };
    check_close(run(fused, x, 5), run(composed, x, 5), 1e-12);
  }
}

TEST_CASE("attention's gradients are as exact for scores of thousands as for small ones") {
  // Scores base + n / 1024, which f32 has without rounding: all that is lost is lost by the op.
  for (const double base : {0.0, 440.0, 4700.0, -4700.0}) {
    INFO("base ", base);
    const auto whole = [](const Shape& shape, uint64_t seed) {
      return SampleMaker(seed, DType::f64, kCpu).integers(shape, -32, 33).to(DType::f64) / 32;
    };
    const int64_t n = 50;
    const Tensor ones_column = ones({1, 1, n, 1}, {DType::f64});
    const Problem x{cat({ones_column * base, whole({1, 1, n, 3}, 1)}, 3),
                    cat({ones_column, whole({1, 1, n, 3}, 2)}, 3), whole({1, 1, n, 4}, 3)};
    const Problem narrow{x.q.to(DType::f32), x.k.to(DType::f32), x.v.to(DType::f32)};
    const AttentionOptions options{.scale = 1};
    const auto fused = [&](auto&... in) { return attention(in..., options); };
    const Tensors wanted = run(fused, x, 5), got = run(fused, narrow, 5);
    // The gradient of q sums dS k, whose first column cancels: it is compared beside the others.
    check_close({got[0], slice(got[1], 3, 1, 4), slice(got[2], 3, 1, 4), got[3]},
                {wanted[0], slice(wanted[1], 3, 1, 4), slice(wanted[2], 3, 1, 4), wanted[3]}, 3e-6);
  }
}
