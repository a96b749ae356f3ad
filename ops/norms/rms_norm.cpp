#include "autograd/registry.h"
#include "ops/norms/norms.h"
#include "ops/norms/row_norm.h"

namespace tandem {

void detail::check_rms_norm(const Tensor& x, const Tensor& weight) {
  check<ShapeError>(x.dim() > 0, "rms_norm: expected at least 1 dimension, got {}", describe(x));
  check_affine("rms_norm", "weight", weight, {x.shape().back()}, x);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, std::optional<DType> dtype) {
  detail::check_rms_norm(x, weight);
  return detail::row_norm<false>({x, weight}, {x.shape().back()}, eps, dtype);
}

namespace {

const RegisterOp rms_norm_op("rms_norm", [](OpCases& c) {
  const auto with_eps = [](double eps) {
    return [=](const Tensors& in) { return rms_norm(in[0], in[1], eps); };
  };
  c.sample("2x3x5", {c.normal({2, 3, 5}), c.normal({5})}, with_eps(1e-6));
  c.sample("eps 0.1", {c.normal({2, 4}), c.normal({4})}, with_eps(0.1));
  c.sample("long row", {c.normal({2, 37}), c.normal({37})}, with_eps(1e-6));
  c.sample("x alone", {c.normal({3, 4}), {}}, with_eps(1e-6));
  c.sample("one value", {c.away_from_zero({3, 1}), c.normal({1})}, with_eps(0.1));
  c.sample("one row", {c.normal({4}), c.normal({4})}, with_eps(1e-6));
  c.sample("no rows", {c.normal({0, 4}), c.normal({4})}, with_eps(1e-6));
  c.fails<ShapeError>("weight", "rms_norm: weight is f32[2], expected shape [3]", {zeros({2, 3}), zeros({2})},
                      with_eps(0));
  c.fails<ShapeError>("number", "rms_norm: expected at least 1 dimension, got f32[]", {scalar(1), {}},
                      with_eps(0));
  c.fails<DTypeError>("weight f64", "rms_norm: weight is f64[3], expected the dtype of x",
                      {zeros({2, 3}), zeros({3}, {DType::f64})}, with_eps(0));
  c.fails<DTypeError>("i64", "rms_norm: expected a floating dtype", {zeros({2, 3}, {DType::i64}), {}},
                      with_eps(0));
});

}  // namespace
}  // namespace tandem
