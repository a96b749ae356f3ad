// A convolution y = C(x, w) is linear in each of its inputs, and so are its two gradients
//   dx = D(g, w),  dw = W(x, g)
// All three are <g, C(x, w)> seen from another side, so the vjp of each is the other two: derivatives of any
// order need no more kernels. Passes are samples: they lead the batch, and W sums over them.
#include "ops/conv2d.h"

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/linear.h"
#include "ops/products/cached_cast.h"
#include "ops/products/conv_kernel.h"
#include "ops/products/linear_parts.h"
#include "ops/reduce.h"
#include "ops/views.h"

namespace tandem {
namespace {

using detail::ConvShape;

// The three ops know everything from the sizes of one pass; n counts the samples of all passes.
ConvShape of_all_passes(ConvShape shape, int passes) {
  shape.n *= passes;
  return shape;
}
DType sum_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

Tensor input_grad(const Tensor& g, const Tensor& weight, const ConvShape& shape, DType dtype);
Tensor weight_grad(const Tensor& x, const Tensor& g, const ConvShape& shape, DType dtype);

// `dtype` is that of the kernel: x and g are of it already, the weight may be wider.
struct ConvOp : Op {
  ConvShape shape;
  DType dtype;
  ConvOp(const ConvShape& shape, DType dtype) : shape(shape), dtype(dtype) {}
};

struct Conv2d final : ConvOp {
  using ConvOp::ConvOp;
  const char* name() const override { return "conv2d"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), weight = dense(detail::cached_cast(in[1], dtype));
    const Tensor out = output({shape.n, shape.o, shape.out_h(), shape.out_w()}, x);
    save(in[0]), save(in[1]);
    if (on_device(x, weight, in[2], out)) return out;
    const Tensor bias = in[2].defined() ? dense(in[2].to(sum_dtype(dtype))) : in[2];
    detail::conv2d_forward(of_all_passes(shape, passes()), dtype, x.raw(), weight.raw(),
                           bias.defined() ? bias.raw() : nullptr, out.raw());
    return out;
  }
  bool on_device(const Tensor& x, const Tensor& weight, const Tensor& b, const Tensor& out) {
    if (x.device() == kCpu) return false;
    const Tensor bias = b.defined() ? dense(detail::cached_cast(b, dtype)) : b;
    return run_on_device(
        x, detail::Conv2dArgs{of_all_passes(shape, passes()), dtype, x.device_raw(), weight.device_raw(),
                              bias.defined() ? bias.device_raw() : nullptr, out.device_raw()});
  }
  Tensors vjp(const Tensor& g) override {
    return {needs(0) ? input_grad(g, saved(1), shape, dtype) : Tensor(),
            needs(1) ? weight_grad(saved(0), g, shape, dtype) : Tensor(),
            needs(2) ? sum(g.to(sum_dtype(dtype)), {0, 2, 3}) : Tensor()};
  }
};

struct Conv2dInputGrad final : ConvOp {
  using ConvOp::ConvOp;
  const char* name() const override { return "conv2d_input_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]), weight = dense(detail::cached_cast(in[1], dtype));
    const Tensor out = output({shape.n, shape.c, shape.h, shape.w}, g);
    save(in[0]), save(in[1]);
    const ConvShape all = of_all_passes(shape, passes());
    if (run_on_device(
            g, detail::Conv2dDataArgs{all, dtype, g.device_raw(), weight.device_raw(), out.device_raw()}))
      return out;
    detail::conv2d_backward_data(all, dtype, g.raw(), weight.raw(), out.raw());
    return out;
  }
  Tensors vjp(const Tensor& c) override {
    return {needs(0) ? apply<Conv2d>({c, saved(1), Tensor()}, shape, dtype) : Tensor(),
            needs(1) ? weight_grad(c, saved(0), shape, dtype) : Tensor()};
  }
};

struct Conv2dWeightGrad final : ConvOp {
  using ConvOp::ConvOp;
  const char* name() const override { return "conv2d_weight_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), g = dense(in[1]);
    const ConvShape all = of_all_passes(shape, passes());
    set_passes(1);
    const Tensor out =
        output({shape.o, shape.c / shape.groups, shape.kh, shape.kw}, sum_dtype(dtype), x.device());
    save(in[0]), save(in[1]);
    if (!on_device(all, x, g, out))
      detail::conv2d_backward_weights(all, dtype, x.raw(), g.raw(), out.raw(), nullptr);
    return out;
  }
  // There sums have the type of x and g, so these are converted to that of the result.
  bool on_device(const ConvShape& all, const Tensor& narrow_x, const Tensor& narrow_g, const Tensor& out) {
    if (out.device() == kCpu) return false;
    const Tensor x = narrow_x.to(out.dtype()), g = narrow_g.to(out.dtype());
    return run_on_device(x, detail::Conv2dWeightsArgs{all, out.dtype(), x.device_raw(), g.device_raw(),
                                                      out.device_raw(), dtype == DType::bf16});
  }
  Tensors vjp(const Tensor& c) override {
    return {needs(0) ? input_grad(saved(1), c, shape, dtype) : Tensor(),
            needs(1) ? apply<Conv2d>({saved(0), c, Tensor()}, shape, dtype) : Tensor()};
  }
};

Tensor input_grad(const Tensor& g, const Tensor& weight, const ConvShape& shape, DType dtype) {
  return apply<Conv2dInputGrad>({g, weight}, shape, dtype);
}
// x and g have the same passes, unless noise came into only one of the two.
Tensor weight_grad(const Tensor& x, const Tensor& g, const ConvShape& shape, DType dtype) {
  const int m = std::max(x.passes(), g.passes());
  auto in_all = [m](const Tensor& t) { return t.passes() == m ? t : stack_passes(Tensors(m, t)); };
  return apply<Conv2dWeightGrad>({in_all(x), in_all(g)}, shape, dtype);
}

ConvShape conv_shape(const Tensor& x, const Tensor& weight, const Conv2dOptions& o) {
  check<ShapeError>(x.dim() == 4 && weight.dim() == 4,
                    "conv2d: expected x [N, C, H, W] and weight [O, C / groups, KH, KW], got {} and {}",
                    describe(x), describe(weight));
  check<ShapeError>(o.stride.size() == 2 && o.padding.size() == 2 && o.dilation.size() == 2,
                    "conv2d: stride {}, padding {} and dilation {} must be pairs [height, width]", o.stride,
                    o.padding, o.dilation);
  const ConvShape shape{.n = x.size(0),
                        .c = x.size(1),
                        .h = x.size(2),
                        .w = x.size(3),
                        .o = weight.size(0),
                        .kh = weight.size(2),
                        .kw = weight.size(3),
                        .stride_h = o.stride[0],
                        .stride_w = o.stride[1],
                        .pad_h = o.padding[0],
                        .pad_w = o.padding[1],
                        .dilation_h = o.dilation[0],
                        .dilation_w = o.dilation[1],
                        .groups = o.groups};
  detail::check_conv_shape(shape);
  check<ShapeError>(
      weight.size(1) * o.groups == x.size(1),
      "conv2d: channels differ: x {} vs weight {} (x.size(1)={}, weight.size(1)={} x {} groups)", describe(x),
      describe(weight), x.size(1), weight.size(1), o.groups);
  return shape;
}

// Patches that tile the map, each seen once: a linear map of their pixels (up to 2.4 times as fast as the
// convolution, forward and backward).
bool is_patch_embedding(const ConvShape& s) {
  return s.kh * s.kw > 1 && s.stride_h == s.kh && s.stride_w == s.kw && s.pad_h == 0 && s.pad_w == 0 &&
         s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1 && s.h % s.kh == 0 && s.w % s.kw == 0;
}
Tensor embed_patches(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvShape& s) {
  const int64_t pixels = s.c * s.kh * s.kw;
  const Tensor patches = x.reshape({s.n, s.c, s.out_h(), s.kh, s.out_w(), s.kw})
                             .permute({0, 2, 4, 1, 3, 5})
                             .reshape({s.n, s.out_h(), s.out_w(), pixels});
  return linear(patches, weight.reshape({s.o, pixels}), bias).permute({0, 3, 1, 2});
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  detail::check_floating("conv2d", x, weight, bias);
  const ConvShape shape = conv_shape(x, weight, options);
  detail::check_bias("conv2d", weight, bias);
  if (is_patch_embedding(shape)) return embed_patches(x, weight, bias, shape);
  const DType dtype = detail::linear_dtype(x.dtype(), weight, bias);
  const int m = common_passes("conv2d", {weight, bias});
  if (m == 1) return apply<Conv2d>({x.to(dtype), weight, bias}, shape, dtype);
  Tensors passes;
  for (int i = 0; i < m; ++i) {
    passes.push_back(conv2d(x.pass(i), weight.pass(i), bias.defined() ? bias.pass(i) : bias, options));
  }
  return stack_passes(passes);
}

namespace {

const RegisterOp conv2d_op("conv2d", [](OpCases& c) {
  const auto with = [](Conv2dOptions options) {
    return [options](const Tensors& in) { return conv2d(in[0], in[1], in[2], options); };
  };
  const auto sample = [&](const char* label, Shape x, Shape weight, bool bias, Conv2dOptions options = {}) {
    c.sample(label, {c.normal(x), c.normal(weight), bias ? c.normal({weight[0]}) : Tensor()}, with(options));
  };
  sample("3x3", {2, 2, 4, 4}, {2, 2, 3, 3}, true);
  sample("no bias", {1, 2, 4, 3}, {3, 2, 2, 2}, false);
  sample("1x1", {2, 3, 2, 2}, {2, 3, 1, 1}, true);
  sample("stride, padding", {1, 2, 5, 4}, {2, 2, 3, 2}, true, {.stride = {2, 1}, .padding = {1, 1}});
  sample("dilation", {1, 1, 5, 5}, {2, 1, 3, 2}, false, {.padding = {1, 0}, .dilation = {2, 3}});
  sample("groups", {1, 4, 3, 3}, {4, 2, 2, 2}, true, {.padding = {1, 1}, .groups = 2});
  sample("depthwise", {1, 3, 3, 3}, {3, 1, 2, 2}, false, {.groups = 3});
  sample("patches", {2, 1, 4, 4}, {3, 1, 2, 2}, true, {.stride = {2, 2}});
  sample("no samples", {0, 2, 3, 3}, {2, 2, 2, 2}, true);

  const Tensor x = zeros({1, 1, 2, 2}), weight = zeros({2, 1, 2, 2});
  c.fails<ShapeError>("rank", "conv2d: expected x [N, C, H, W] and weight [O, C / groups, KH, KW]",
                      {zeros({3, 4, 4}), weight, {}}, with({}));
  c.fails<ShapeError>("channels",
                      "conv2d: channels differ: x f32[1,3,4,4] vs weight f32[2,2,3,3] (x.size(1)=3, "
                      "weight.size(1)=2 x 1 groups)",
                      {zeros({1, 3, 4, 4}), zeros({2, 2, 3, 3}), {}}, with({}));
  c.fails<ShapeError>("kernel", "conv2d: ", {x, zeros({1, 1, 3, 3}), {}}, with({}));
  c.fails<ShapeError>("bias", "conv2d: bias f32[3] does not fit weight f32[2,1,2,2], expected [2]",
                      {x, weight, zeros({3})}, with({}));
  c.fails<DTypeError>("i64", "conv2d: expected floating dtypes (bf16, f32, f64), got x i64[1,1,2,2]",
                      {x.to(DType::i64), weight, {}}, with({}));
});

}  // namespace
}  // namespace tandem
