#include "autograd/registry.h"
#include "ops/norms/channel_norm.h"
#include "ops/norms/norms.h"

namespace tandem {
namespace {

struct GroupNorm final : detail::ChannelNorm {
  using ChannelNorm::ChannelNorm;
  const char* name() const override { return "group_norm"; }
  Tensor forward(const Tensors& in) override { return normalise(in).y; }
};

}  // namespace

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps) {
  check<ShapeError>(x.dim() >= 2, "group_norm: expected [N, C, ...], got {}", describe(x));
  const int64_t channels = x.shape()[1];
  check<ValueError>(groups > 0 && channels % groups == 0,
                    "group_norm: {} groups do not divide the channels of {}", groups, describe(x));
  detail::check_affine("group_norm", "weight", weight, {channels}, x);
  detail::check_affine("group_norm", "bias", bias, {channels}, x);
  return apply<GroupNorm>({x, weight, bias}, groups, eps);
}

namespace {

const RegisterOp group_norm_op("group_norm", [](OpCases& c) {
  const auto in_groups = [](int64_t groups, double eps = 1e-5) {
    return [=](const Tensors& in) { return group_norm(in[0], groups, in[1], in[2], eps); };
  };
  c.sample("2 groups", {c.normal({2, 4, 3}), c.normal({4}), c.normal({4})}, in_groups(2));
  c.sample("images, eps 0.1", {c.normal({2, 3, 2, 2}), c.normal({3}), c.normal({3})}, in_groups(3, 0.1));
  c.sample("one group of vectors", {c.normal({3, 4}), c.normal({4}), c.normal({4})}, in_groups(1));
  c.sample("x alone", {c.normal({2, 4, 2}), {}, {}}, in_groups(2));
  c.sample("bias alone", {c.normal({2, 2, 3}), {}, c.normal({2})}, in_groups(2));
  c.sample("no samples", {c.normal({0, 4, 3}), c.normal({4}), c.normal({4})}, in_groups(2));
  const Tensor x = zeros({2, 4});
  c.fails<ValueError>("groups", "group_norm: 3 groups do not divide the channels of f32[2,4]", {x, {}, {}},
                      in_groups(3));
  c.fails<ValueError>("no groups", "group_norm: 0 groups do not divide", {x, {}, {}}, in_groups(0));
  c.fails<ShapeError>("vector", "group_norm: expected [N, C, ...], got f32[4]", {zeros({4}), {}, {}},
                      in_groups(2));
  c.fails<ShapeError>("weight", "group_norm: weight is f32[2], expected shape [4]", {x, zeros({2}), {}},
                      in_groups(2));
  c.fails<DTypeError>("i64", "group_norm: expected a floating dtype", {x.to(DType::i64), {}, {}},
                      in_groups(2));
});

}  // namespace
}  // namespace tandem
