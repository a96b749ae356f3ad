#include "autograd/registry.h"
#include "ops/norms/norms.h"
#include "ops/norms/row_norm.h"

namespace tandem {

void detail::check_layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                              const Tensor& bias) {
  const int dims = normalized_shape.size(), first = x.dim() - dims;
  check<ShapeError>(dims > 0 && first >= 0 &&
                        std::equal(normalized_shape.begin(), normalized_shape.end(),
                                   x.shape().begin() + std::max(0, first)),
                    "layer_norm: {} does not end in normalized_shape {}", describe(x), normalized_shape);
  check_affine("layer_norm", "weight", weight, normalized_shape, x);
  check_affine("layer_norm", "bias", bias, normalized_shape, x);
}

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight, const Tensor& bias,
                  double eps, std::optional<DType> dtype) {
  detail::check_layer_norm(x, normalized_shape, weight, bias);
  return detail::row_norm<true>({x, weight, bias}, normalized_shape, eps, dtype);
}

namespace {

const RegisterOp layer_norm_op("layer_norm", [](OpCases& c) {
  const auto over = [](Shape shape, double eps = 1e-5) {
    return [=](const Tensors& in) { return layer_norm(in[0], shape, in[1], in[2], eps); };
  };
  c.sample("last", {c.normal({3, 5}), c.normal({5}), c.normal({5})}, over({5}));
  c.sample("last two", {c.normal({2, 2, 3}), c.normal({2, 3}), c.normal({2, 3})}, over({2, 3}));
  c.sample("eps 0.1", {c.normal({2, 4}), c.normal({4}), c.normal({4})}, over({4}, 0.1));
  c.sample("long row", {c.normal({2, 37}), c.normal({37}), c.normal({37})}, over({37}));
  c.sample("x alone", {c.normal({2, 2, 4}), {}, {}}, over({4}));
  c.sample("weight alone", {c.normal({3, 4}), c.normal({4}), {}}, over({4}));
  c.sample("bias alone", {c.normal({3, 4}), {}, c.normal({4})}, over({4}));
  c.sample("no rows", {c.normal({0, 4}), c.normal({4}), c.normal({4})}, over({4}));

  const Tensor x = zeros({2, 3});
  c.fails<ShapeError>("shape", "layer_norm: f32[2,3] does not end in normalized_shape [2]", {x, {}, {}},
                      over({2}));
  c.fails<ShapeError>("longer", "layer_norm: f32[3] does not end in normalized_shape [2,3]",
                      {zeros({3}), {}, {}}, over({2, 3}));
  c.fails<ShapeError>("weight", "layer_norm: weight is f32[2], expected shape [3]", {x, zeros({2}), {}},
                      over({3}));
  c.fails<ShapeError>("bias", "layer_norm: bias is f32[1], expected shape [3]", {x, {}, zeros({1})},
                      over({3}));
  c.fails<DTypeError>("weight f64", "layer_norm: weight is f64[3], expected the dtype of x",
                      {x, zeros({3}, {DType::f64}), {}}, over({3}));
  c.fails<DTypeError>("i64", "layer_norm: expected a floating dtype", {x.to(DType::i64), {}, {}}, over({3}));
});

}  // namespace
}  // namespace tandem
