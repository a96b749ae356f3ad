// y = h W2^T + b2,  h = f(z),  z = x W1^T + b1; with the cotangent g of y:
//   dz = (g W2) f'(z),  dx = dz W1,  dW2 = g^T h,  dW1 = dz^T x,  db: the sums of g's and dz's rows
// Where a device's library can, the product g W2 multiplies by f'(z) in its epilogue, from a memo that the
// product for h wrote; that is decided when h is made. Otherwise f'(z) is applied by a sweep of its own, from
// h (relu) or z (gelu).
#include "ops/feed_forward.h"

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"
#include "ops/products/linear_parts.h"

namespace tandem {
namespace {

using detail::FusedMatmul;

bool needs_gradient(const Tensors& in, size_t begin, size_t end) {
  bool needed = false;
  for (size_t i = begin; i < end; ++i) needed |= in[i].defined() && in[i].requires_grad();
  return needed && grad_enabled();
}

Tensor composed(const Tensors& in, Activation activation) {
  // The same bits whichever inputs need a gradient: a CPU's gelu within a product is not quite that of a
  // recorded layer.
  const bool alone =
      !needs_gradient(in, 0, 3) && needs_gradient(in, 3, 5) && derivative_needs_input(activation);
  const Tensor z = linear(in[0], in[1], in[2], alone ? Activation::none : activation);
  return linear(alone ? detail::activate(z, activation) : z, in[3], in[4]);
}

struct FeedForward final : Op {
  enum Saved { kX, kWeight1, kBias1, kWeight2, kBias2, kHidden, kMemo };
  Activation activation;
  DType dtype;         // of both products
  bool fused = false;  // whether the memo is the library's; else it is z, or nothing for relu
  FeedForward(Activation activation, DType dtype) : activation(activation), dtype(dtype) {}
  const char* name() const override { return "feed_forward"; }

  Tensor forward(const Tensors& in) override {
    const Tensor hidden = output(with_last(in[0].shape(), in[1].size(0)), dtype, in[0].device());
    for (const Tensor& x : in) save(x);
    save(hidden), save(make_hidden(in, hidden));
    const Tensor y = output(with_last(in[0].shape(), in[3].size(0)), dtype, in[0].device());
    detail::matmul_on(y, detail::linear_product(hidden, in[3], in[4], y).args);
    return y;
  }

  static Shape with_last(Shape shape, int64_t size) {
    shape[shape.size() - 1] = size;
    return shape;
  }

  // Fills `hidden`; gives the memo.
  Tensor make_hidden(const Tensors& in, const Tensor& hidden) {
    const bool relu = activation == Activation::relu;
    detail::LinearProduct product = detail::linear_product(in[0], in[1], in[2], hidden);
    product.args.epilogue = activation;
    if (recording()) {
      const int64_t rows = product.args.c.rows, cols = product.args.c.cols;
      const Tensor memo =
          relu ? empty({rows, detail::relu_memo_stride(cols) / 8}, {DType::u8, hidden.device()})
               : empty_like(hidden);
      run_on_device(hidden, FusedMatmul{product.args, memo.device_raw(), false, &fused});
      if (fused) return memo;
      if (!relu) product.args.preactivation = memo.device_raw();
      detail::matmul_on(hidden, product.args);
      return relu ? Tensor() : memo;
    }
    detail::matmul_on(hidden, product.args);
    return {};
  }

  Tensors vjp(const Tensor& cotangent) override {
    if (grad_enabled()) return recorded_vjp(cotangent);
    const Tensor g = dense(cotangent), x = saved(kX), weight1 = saved(kWeight1), weight2 = saved(kWeight2);
    const detail::LinearGradients second =
        detail::linear_gradients(g, saved(kHidden), weight2, needs(kWeight2), needs(kBias2));
    if (!needs(kX) && !needs(kWeight1) && !needs(kBias1)) return {{}, {}, {}, second.weight, second.bias};
    Tensor dbias1;
    const Tensor dz = hidden_gradient(g, weight2, dbias1);
    const detail::LinearGradients first =
        detail::linear_gradients(dz, x, weight1, needs(kWeight1), needs(kBias1) && !dbias1.defined());
    return {needs(kX) ? matmul(dz, detail::cached_cast(weight1, dtype)) : Tensor(), first.weight,
            dbias1.defined() ? dbias1 : first.bias, second.weight, second.bias};
  }

  // dz; db1, too, where that is made in the same sweep.
  Tensor hidden_gradient(const Tensor& g, const Tensor& weight2, Tensor& dbias1) const {
    const Tensor hidden = saved(kHidden), memo = saved(kMemo), dz = empty_like(hidden);
    const Tensor weight = detail::cached_cast(weight2, dtype);
    detail::MatmulArgs args{.a = detail::as_matrix(detail::fold_rows(g)),
                            .b = detail::as_matrix(weight),
                            .c = detail::as_matrix(detail::fold_rows(dz)),
                            .epilogue = activation};
    bool done = false;
    if (fused) run_on_device(dz, FusedMatmul{args, memo.device_raw(), true, &done});
    if (done) return dz;
    const Activation f = std::exchange(args.epilogue, Activation::none);
    detail::matmul_on(dz, args);
    if (needs(kBias1)) dbias1 = detail::empty_sums(dz);
    detail::linear_sweep(f, dz, activation == Activation::relu ? hidden : memo, dz, dbias1);
    return dz;
  }

  // In terms of other ops.
  Tensors recorded_vjp(const Tensor& g) {
    Tensors in, wanted;
    for (size_t i = kX; i <= kBias2; ++i) {
      in.push_back(saved(i));
      if (needs(i)) wanted.push_back(in.back());
    }
    const Tensors gradients = grad(composed(in, activation), wanted, g, {.create_graph = true});
    Tensors result(in.size());
    for (size_t i = 0, at = 0; i < result.size(); ++i)
      if (needs(i)) result[i] = gradients[at++];
    return result;
  }
};

}  // namespace

Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation) {
  const Tensors in{x, weight1, bias1, weight2, bias2};
  const bool known = activation == Activation::relu || activation == Activation::gelu_tanh;
  if (x.device() == kCpu || !grad_enabled() || !known) return composed(in, activation);
  for (const Tensor& t : in)
    if (t.defined() && (!is_floating(t.dtype()) || (&t != &in[0] && t.passes() > 1)))
      return composed(in, activation);
  const auto fits = [](const Tensor& weight, const Tensor& bias, int64_t inputs) {
    return weight.dim() == 2 && weight.size(1) == inputs &&
           (!bias.defined() || bias.shape() == Shape{weight.size(0)});
  };
  if (x.dim() == 0 || !fits(weight1, bias1, x.size(-1)) || !fits(weight2, bias2, weight1.size(0)))
    return composed(in, activation);  // which says what is wrong
  const DType dtype = detail::linear_dtype(x.dtype(), weight1, bias1);
  const DType second = detail::linear_dtype(dtype, weight2, bias2);
  return dtype == second ? apply<FeedForward>(in, activation, dtype) : composed(in, activation);
}

namespace {

const RegisterOp feed_forward_op("feed_forward", [](OpCases& c) {
  const auto with = [](Activation activation) {
    return [activation](const Tensors& in) {
      return feed_forward(in[0], in[1], in[2], in[3], in[4], activation);
    };
  };
  // relu's samples stay away from its kink: |x W^T| < 0.12 beside |bias| > 0.2.
  const auto away_from_kink = [&](const char* label, Shape x, int64_t hidden, int64_t outputs) {
    c.sample(label,
             {c.uniform(x, -0.2, 0.2), c.uniform({hidden, 3}, -0.2, 0.2), c.away_from_zero({hidden}),
              c.normal({outputs, hidden}), c.normal({outputs})},
             with(Activation::relu));
  };
  const auto sample = [&](const char* label, int64_t rows, int64_t hidden, Activation activation) {
    c.sample(label,
             {c.normal({rows, 3}), c.normal({hidden, 3}), c.normal({hidden}), c.normal({2, hidden}),
              c.normal({2})},
             with(activation));
  };
  away_from_kink("relu", {2, 3}, 8, 2);
  away_from_kink("relu, sequence", {2, 2, 3}, 4, 3);
  sample("gelu_tanh", 2, 8, Activation::gelu_tanh);
  sample("gelu_tanh, odd", 2, 5, Activation::gelu_tanh);
  c.sample("gelu_tanh without biases", {c.normal({2, 3}), c.normal({8, 3}), {}, c.normal({2, 8}), {}},
           with(Activation::gelu_tanh));
  sample("gelu", 2, 4, Activation::gelu);
  sample("empty", 0, 4, Activation::gelu_tanh);

  c.fails<ShapeError>("inputs", "linear: x f32[2,3] does not fit weight f32[4,5], expected x [..., 5]",
                      {zeros({2, 3}), zeros({4, 5}), {}, zeros({2, 4}), {}}, with(Activation::relu));
  c.fails<ShapeError>("hidden", "linear: x f32[2,4] does not fit weight f32[2,3], expected x [..., 3]",
                      {zeros({2, 3}), zeros({4, 3}), {}, zeros({2, 3}), {}}, with(Activation::relu));
});

}  // namespace
}  // namespace tandem
