#include "autograd/registry.h"
#include "ops/norms/norms.h"
#include "ops/norms/row_norm.h"

namespace tandem {

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight, const Tensor& bias,
                  double eps) {
  const int dims = normalized_shape.size(), first = x.dim() - dims;
  check<ShapeError>(dims > 0 && first >= 0 &&
                        std::equal(normalized_shape.begin(), normalized_shape.end(),
                                   x.shape().begin() + std::max(0, first)),
                    "layer_norm: {} does not end in normalized_shape {}", describe(x), normalized_shape);
  detail::check_affine("layer_norm", "weight", weight, normalized_shape, x);
  detail::check_affine("layer_norm", "bias", bias, normalized_shape, x);
  return apply<detail::RowNorm<true>>({x, weight, bias}, normalized_shape, eps);
}

namespace {

Function over(Shape shape, double eps = 1e-5) {
  return [=](const Tensors& in) { return layer_norm(in[0], shape, in[1], in[2], eps); };
}

const RegisterOp registered{
    {.name = "layer_norm",
     .samples =
         [](SampleMaker& make) {
           return Samples{
               {"last", {make.normal({3, 5}), make.normal({5}), make.normal({5})}, over({5})},
               {"last two", {make.normal({2, 2, 3}), make.normal({2, 3}), make.normal({2, 3})}, over({2, 3})},
               {"eps 0.1", {make.normal({2, 4}), make.normal({4}), make.normal({4})}, over({4}, 0.1)},
               {"long row", {make.normal({2, 37}), make.normal({37}), make.normal({37})}, over({37})},
               {"x alone", {make.normal({2, 2, 4}), {}, {}}, over({4})},
               {"weight alone", {make.normal({3, 4}), make.normal({4}), {}}, over({4})},
               {"bias alone", {make.normal({3, 4}), {}, make.normal({4})}, over({4})},
               {"no rows", {make.normal({0, 4}), make.normal({4}), make.normal({4})}, over({4})}};
         },
     .errors =
         [] {
           return ErrorSamples{
               fails<ShapeError>("shape", "layer_norm: f32[2,3] does not end in normalized_shape [2]",
                                 [] {
                                   layer_norm(zeros({2, 3}), {2});
                                 }),
               fails<ShapeError>("longer", "layer_norm: f32[3] does not end in normalized_shape [2,3]",
                                 [] {
                                   layer_norm(zeros({3}), {2, 3});
                                 }),
               fails<ShapeError>("weight", "layer_norm: weight is f32[2], expected shape [3]",
                                 [] {
                                   layer_norm(zeros({2, 3}), {3}, zeros({2}));
                                 }),
               fails<ShapeError>("bias", "layer_norm: bias is f32[1], expected shape [3]",
                                 [] {
                                   layer_norm(zeros({2, 3}), {3}, {}, zeros({1}));
                                 }),
               fails<DTypeError>("weight f64", "layer_norm: weight is f64[3], expected the dtype of x",
                                 [] {
                                   layer_norm(zeros({2, 3}), {3}, zeros({3}, {DType::f64}));
                                 }),
               fails<DTypeError>("i64", "layer_norm: expected a floating dtype", [] {
                 layer_norm(zeros({2, 3}, {DType::i64}), {3});
               })};
         }}};

}  // namespace
}  // namespace tandem
