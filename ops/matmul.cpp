// y = a b; with the cotangent g of y: da = g b^T, db = a^T g, by matmul again.
// The batch is everything in front of the matrices: passes first, then leading dimensions. What is the same
// in all of it has stride 0 there. When b is one matrix for the whole batch, all rows of a meet it in ONE
// product, and so does its gradient: db = [rows of a]^T [rows of g], summed inside the product.
#include "ops/matmul.h"

#include <atomic>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/loops/loop.h"
#include "ops/products/matrix.h"
#include "ops/views.h"

namespace tandem {
namespace {

using detail::MatrixBatch;

Shape leading(const Shape& shape) {
  Shape result;
  for (int i = 0; i + 2 < shape.size(); ++i) result.push_back(shape[i]);
  return result;
}

// The batch of x alone: a tensor of the leading dimensions whose elements are first elements of matrices.
Tensor batch_of(const Tensor& x) {
  return make_view(x, leading(x.shape()), leading(x.strides()), 0, x.passes(), x.pass_stride());
}

// True when one stride walks all matrices of x.
bool is_uniform(const Tensor& x) {
  const Tensor batch = batch_of(x);
  return detail::make_walk<1>(batch, {}).dims == 1;
}

// x itself when its batch has one stride, or a dense copy whose matrices keep their order of rows and
// columns.
Tensor uniform(const Tensor& x) {
  if (is_uniform(x)) return x;
  const int last = x.dim() - 1;
  if (x.strides()[last] <= x.strides()[last - 1]) return dense(x);
  return transpose(dense(transpose(x, -1, -2)), -1, -2);
}

MatrixBatch matrices(const Tensor& x, int64_t offset, int64_t batch_stride) {
  const int last = x.dim() - 1;
  return {static_cast<const char*>(x.device_raw()) + offset * size_of(x.dtype()),
          x.dtype(),
          x.shape()[last - 1],
          x.shape()[last],
          x.strides()[last - 1],
          x.strides()[last],
          batch_stride};
}

struct Matmul final : Op {
  DType result;
  explicit Matmul(DType result) : result(result) {}
  const char* name() const override { return "matmul"; }

  Tensor forward(const Tensors& in) override {
    Shape shape = broadcast(name(), leading(in[0].shape()), leading(in[1].shape()));
    shape.push_back(in[0].size(-2));
    shape.push_back(in[1].size(-1));
    const Tensor out = output(shape, result, in[0].device());
    save(in[0]), save(in[1]);
    if (out.numel() == 0) return out;
    const Tensor a = uniform(in[0]), b = uniform(in[1]);
    const Tensor batch_a = batch_of(a), batch_b = batch_of(b), batch_out = batch_of(out);
    // Mostly one dimension, so one call; more where an operand is stretched along some of the batch.
    const detail::Walk<3> walk = detail::make_walk<3>(batch_out, {&batch_a, &batch_b});
    const int last = walk.dims - 1;
    const int64_t inner = walk.sizes[last], outer = walk.numel / inner;
    for (int64_t i = 0; i < outer; ++i) {
      int64_t at[3] = {};
      for (int64_t d = last - 1, rest = i; d >= 0; rest /= walk.sizes[d--]) {
        for (int k = 0; k < 3; ++k) at[k] += rest % walk.sizes[d] * walk.strides[k][d];
      }
      detail::matmul_on(out, {.a = matrices(a, at[1], walk.strides[1][last]),
                              .b = matrices(b, at[2], walk.strides[2][last]),
                              .c = matrices(out, at[0], walk.strides[0][last]),
                              .batch = inner});
    }
    return out;
  }

  Tensors vjp(const Tensor& g) override {
    const Tensor a = saved(0), b = saved(1);
    return {needs(0) ? matmul(g, b.transpose(-1, -2), a.dtype()) : Tensor(),
            needs(1) ? right_gradient(a, b, g) : Tensor()};
  }

  static Tensor right_gradient(const Tensor& a, const Tensor& b, const Tensor& g) {
    if (b.dim() > 2) return matmul(a.transpose(-1, -2), g, b.dtype());
    if (b.passes() == 1) return matmul(detail::fold_rows(a).t(), detail::fold_rows(g), b.dtype());
    int64_t rows = 1;
    for (int i = 0; i + 1 < g.dim(); ++i) rows *= g.shape()[i];
    return matmul(a.reshape({rows, a.size(-1)}).t(), g.reshape({rows, g.size(-1)}), b.dtype());
  }
};

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, DType result) {
  check<DTypeError>(is_floating(a.dtype()) && is_floating(b.dtype()),
                    "matmul: expected floating dtypes (bf16, f32, f64), got a {} and b {}", describe(a),
                    describe(b));
  check<ShapeError>(a.dim() > 0 && b.dim() > 0,
                    "matmul: a tensor without dimensions: a {} vs b {}, expected at least one", describe(a),
                    describe(b));
  const int64_t k = b.size(b.dim() == 1 ? 0 : -2);
  check<ShapeError>(a.size(-1) == k,
                    "matmul: inner dimensions differ: a {} vs b {} (a.size(-1)={}, b.size({})={})",
                    describe(a), describe(b), a.size(-1), b.dim() == 1 ? 0 : -2, k);
  const DType dtype = promote(a.dtype(), b.dtype());
  if (dtype == DType::f64) result = dtype;
  const Tensor y = apply<Matmul>(
      {(a.dim() == 1 ? a.unsqueeze(0) : a).to(dtype), (b.dim() == 1 ? b.unsqueeze(1) : b).to(dtype)}, result);
  if (a.dim() > 1 && b.dim() > 1) return y;
  Shape shape = leading(y.shape());
  if (a.dim() > 1) shape.push_back(y.size(-2));
  if (b.dim() > 1) shape.push_back(y.size(-1));
  return y.reshape(shape);
}

Tensor matmul(const Tensor& a, const Tensor& b) { return matmul(a, b, promote(a.dtype(), b.dtype())); }

namespace {
void check_vectors(const char* op, const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.dim() == 1 && b.dim() == 1, "{}: expected two vectors, got {} and {}", op, describe(a),
                    describe(b));
}
}  // namespace

Tensor dot(const Tensor& a, const Tensor& b) {
  check_vectors("dot", a, b);
  check<ShapeError>(a.numel() == b.numel(), "dot: expected equal sizes, got {} and {}", describe(a),
                    describe(b));
  return matmul(a, b);
}

Tensor outer(const Tensor& a, const Tensor& b) {
  check_vectors("outer", a, b);
  return a.unsqueeze(1) * b;
}

namespace {
std::atomic<bool> tf32 = false;
}
void set_allow_tf32(bool allow) { tf32 = allow; }
bool allow_tf32() { return tf32; }

namespace {

const RegisterOp matmul_op("matmul", [](OpCases& c) {
  const auto sample = [&](const char* label, const Shape& a, const Shape& b) {
    c.sample(label, {c.normal(a), c.normal(b)}, call(matmul));
  };
  sample("2x3 @ 3x4", {2, 3}, {3, 4});
  sample("dot", {3}, {3});
  sample("vector @ matrix", {3}, {3, 2});
  sample("matrix @ vector", {2, 3}, {3});
  sample("vector @ batch", {3}, {2, 3, 2});
  sample("batch @ vector", {2, 2, 3}, {3});
  sample("batch", {3, 2, 3}, {3, 3, 2});
  sample("shared b", {3, 2, 3}, {3, 4});
  sample("shared a", {2, 3}, {3, 3, 2});
  sample("broadcast", {2, 1, 2, 3}, {3, 3, 2});
  sample("broadcast inside", {2, 1, 2, 2, 2}, {3, 1, 2, 2});
  sample("one element", {1, 1}, {1, 1});
  sample("no rows", {0, 3}, {3, 2});
  sample("no inner", {2, 0}, {0, 3});
  sample("no batch", {0, 2, 3}, {3, 2});
  c.sample("transposed", {c.normal({3, 2}), c.normal({4, 3})},
           [](const Tensors& in) { return matmul(in[0].t(), in[1].t()); });
  c.sample("split heads", {c.normal({2, 3, 2, 2}), c.normal({2, 3, 2, 2})}, [](const Tensors& in) {
    return matmul(in[0].transpose(1, 2), in[1].permute({0, 2, 3, 1}));
  });

  c.fails<ShapeError>(
      "inner", "matmul: inner dimensions differ: a f32[2,3] vs b f32[4,5] (a.size(-1)=3, b.size(-2)=4)",
      {zeros({2, 3}), zeros({4, 5})}, call(matmul));
  c.fails<ShapeError>("vector", "(a.size(-1)=3, b.size(0)=4)", {zeros({2, 3}), zeros({4})}, call(matmul));
  c.fails<ShapeError>("batch", "matmul: shapes [2] and [3] do not broadcast",
                      {zeros({2, 2, 3}), zeros({3, 3, 2})}, call(matmul));
  c.fails<ShapeError>("number", "matmul: a tensor without dimensions: a f32[] vs b f32[3]",
                      {zeros({}), zeros({3})}, call(matmul));
  c.fails<DTypeError>("i64", "matmul: expected floating dtypes (bf16, f32, f64), got a i64[2,2]",
                      {zeros({2, 2}, {DType::i64}), zeros({2, 2})}, call(matmul));
});

const RegisterOp dot_op("dot", [](OpCases& c) {
  c.sample("4", {c.normal({4}), c.normal({4})}, call(dot));
  c.sample("empty", {c.normal({0}), c.normal({0})}, call(dot));
  c.fails<ShapeError>("matrix", "dot: expected two vectors, got f32[2,3] and f32[3]",
                      {zeros({2, 3}), zeros({3})}, call(dot));
  c.fails<ShapeError>("sizes", "dot: expected equal sizes, got f32[2] and f32[3]", {zeros({2}), zeros({3})},
                      call(dot));
});

const RegisterOp outer_op("outer", [](OpCases& c) {
  c.sample("4 x 3", {c.normal({4}), c.normal({3})}, call(outer));
  c.sample("empty", {c.normal({0}), c.normal({2})}, call(outer));
  c.fails<ShapeError>("number", "outer: expected two vectors, got f32[2] and f32[]", {zeros({2}), zeros({})},
                      call(outer));
});

}  // namespace
}  // namespace tandem
