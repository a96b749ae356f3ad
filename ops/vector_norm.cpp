#include "ops/vector_norm.h"

#include <cmath>
#include <limits>

#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/einsum.h"
#include "ops/extrema.h"
#include "ops/loops/reduced_dims.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/views.h"

namespace tandem {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// f(x), and 0 with derivative 0 where x is 0, whatever that of f is there.
template <class F> Tensor zero_at_zero(const Tensor& x, const F& f) {
  const Tensor zero = eq(x, 0);
  return masked_fill(f(masked_fill(x, zero, 1)), zero, 0);
}

Tensor wide(const char* op, const Tensor& x) {
  check<DTypeError>(is_floating(x.dtype()), "{}: expected a floating dtype, got {}", op, describe(x));
  return x.to(DType::f64);
}

// Of x in f64.
Tensor norm_of(const char* op, const Tensor& x, double p, const Shape& dims, bool keepdim) {
  check<ValueError>(p > 0 || p == -kInfinity, "{}: p is {}, expected a number above 0, inf or -inf", op, p);
  const std::vector<bool> reduced = detail::reduced_dims(op, x, dims);
  if (std::isinf(p)) {
    check<ShapeError>(x.numel() > 0 || detail::reduced_shape(x, reduced, false).numel() == 0,
                      "{}: dims {} of {} are empty, which have no norm for p = {}", op, dims, x.shape(), p);
    return p > 0 ? amax(abs(x), dims, keepdim) : amin(abs(x), dims, keepdim);
  }
  if (p == 1) return sum(abs(x), dims, keepdim);
  const auto power = [p](const Tensor& y) { return pow(abs(y), p); };
  const Tensor total = sum(p == 2 ? square(x) : zero_at_zero(x, power), dims, keepdim);
  return zero_at_zero(total, [p](const Tensor& y) { return p == 2 ? sqrt(y) : pow(y, 1 / p); });
}

// x / max(norm, eps) in f64.
Tensor normalized(const char* op, const Tensor& x, double p, int64_t dim, double eps) {
  const Tensor y = wide(op, x), length = norm_of(op, y, p, {dim}, true);
  return y / masked_fill(length, lt(length, eps), eps);
}

}  // namespace

Tensor norm(const Tensor& x, double p, const Shape& dims, bool keepdim) {
  return norm_of("norm", wide("norm", x), p, dims, keepdim).to(x.dtype());
}

Tensor normalize(const Tensor& x, double p, int64_t dim, double eps) {
  return normalized("normalize", x, p, dim, eps).to(x.dtype());
}

Tensor cosine_similarity(const Tensor& a, const Tensor& b, int64_t dim, double eps) {
  static constexpr const char* name = "cosine_similarity";
  const Shape shape = broadcast(name, a.shape(), b.shape());
  const int d = wrap_dim(name, dim, shape.size());
  const DType dtype = promote(a.dtype(), b.dtype()), products = promote(dtype, DType::f32);
  const auto unit = [&](const Tensor& x) {
    Shape all(std::vector<int64_t>(shape.size() - x.dim(), 1));  // as many dimensions as `shape`
    for (int64_t size : x.shape()) all.push_back(size);
    Shape stretched = all;
    stretched[d] = shape[d];
    return normalized(name, x.reshape(all).expand(stretched), 2, d, eps).to(products);
  };
  const std::string letters = std::string("abcdefgh").substr(0, shape.size());
  std::string rest = letters;
  rest.erase(d, 1);
  return einsum(fmt::format("{0},{0}->{1}", letters, rest), {unit(a), unit(b)}).to(dtype);
}

namespace {

const RegisterOp norm_op("norm", [](OpCases& c) {
  const auto with = bound(norm);
  c.sample("all", {c.normal({3, 4})}, with(2, {}, false));
  c.sample("last", {c.normal({3, 4})}, with(2, {-1}, false));
  c.sample("outer two, kept", {c.normal({2, 3, 2})}, with(2, {0, 2}, true));
  c.sample("p = 1", {c.away_from_zero({3, 4})}, with(1, {1}, false));
  c.sample("p = 3", {c.away_from_zero({3, 4})}, with(3, {0}, false));
  c.sample("p = 0.5", {c.away_from_zero({3, 2})}, with(0.5, {1}, true));
  c.sample("p = inf", {c.distinct({3, 3}) + 0.33}, with(kInfinity, {1}, false));
  c.sample("p = -inf", {c.distinct({3, 3}) + 0.33}, with(-kInfinity, {}, false));
  c.sample("no elements", {c.normal({3, 0})}, with(2, {1}, false));
  c.sample("no vectors", {c.normal({0, 3})}, with(kInfinity, {1}, false));
  c.sample("number", {c.away_from_zero({})}, with(2, {}, false));
  c.fails<ValueError>("p", "norm: p is -1, expected a number above 0, inf or -inf", {zeros({2})},
                      with(-1, {}, false));
  c.fails<ShapeError>("empty", "norm: dims [0] of [0,3] are empty, which have no norm for p = inf",
                      {zeros({0, 3})}, with(kInfinity, {0}, false));
  c.fails<ShapeError>("dim", "norm: dim 2 is out of range", {zeros({2, 3})}, with(2, {2}, false));
  c.fails<DTypeError>("i64", "norm: expected a floating dtype, got i64[2]", {zeros({2}, {DType::i64})},
                      with(2, {}, false));
});

const RegisterOp normalize_op("normalize", [](OpCases& c) {
  const auto with = bound(normalize);
  c.sample("rows", {c.normal({3, 4})}, with(2, 1, 1e-12));
  c.sample("columns", {c.normal({3, 2, 2})}, with(2, -3, 1e-12));
  c.sample("p = 1", {c.away_from_zero({2, 3})}, with(1, 1, 1e-12));
  c.sample("eps above the length", {c.uniform({2, 3}, -0.1, 0.1)}, with(2, 1, 0.5));
  c.sample("empty", {c.normal({0, 3})}, with(2, 1, 1e-12));
  c.fails<ShapeError>("dim", "normalize: dim 1 is out of range", {zeros({2})}, with(2, 1, 1e-12));
  c.fails<DTypeError>("i64", "normalize: expected a floating dtype", {zeros({2}, {DType::i64})},
                      with(2, 0, 1e-12));
});

const RegisterOp cosine_op("cosine_similarity", [](OpCases& c) {
  const auto with = [](int64_t dim, double eps) {
    return [=](const Tensors& in) { return cosine_similarity(in[0], in[1], dim, eps); };
  };
  c.sample("rows", {c.normal({3, 4}), c.normal({3, 4})}, with(1, 1e-8));
  c.sample("columns", {c.normal({3, 2}), c.normal({3, 2})}, with(-2, 1e-8));
  c.sample("pairs", {c.normal({3, 1, 4}), c.normal({2, 4})}, with(-1, 1e-8));
  c.sample("one for all", {c.normal({4}), c.normal({3, 4})}, with(1, 1e-8));
  c.sample("vectors", {c.normal({5}), c.normal({5})}, with(0, 1e-8));
  c.sample("eps above the length", {c.uniform({2, 3}, -0.1, 0.1), c.normal({2, 3})}, with(1, 0.5));
  c.sample("empty", {c.normal({0, 3}), c.normal({3})}, with(1, 1e-8));
  c.fails<ShapeError>("shapes", "cosine_similarity: shapes [2,3] and [2,4] do not broadcast",
                      {zeros({2, 3}), zeros({2, 4})}, with(1, 1e-8));
  c.fails<ShapeError>("dim", "cosine_similarity: dim 2 is out of range", {zeros({2, 3}), zeros({2, 3})},
                      with(2, 1e-8));
  c.fails<DTypeError>("i64", "cosine_similarity: expected a floating dtype, got i64[2]",
                      {zeros({2}), zeros({2}, {DType::i64})}, with(0, 1e-8));
});

}  // namespace
}  // namespace tandem
