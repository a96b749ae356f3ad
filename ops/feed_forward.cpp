// y = h W2^T + b2,  h = f(z),  z = x W1^T + b1; with the cotangent g of y:
//   dz = (g W2) f'(z),  dx = dz W1,  dW2 = g^T h,  dW1 = dz^T x,  db: the sums of g's and dz's rows
// With dropout h = keep f(z) / (1 - p), and dz = f'(z) keep dh / (1 - p) of dh = g W2, each in one sweep;
// where z is the same in all passes, so is dz, their sum. Else, where a device's library can, the product g
// W2 multiplies by f'(z) in its epilogue, from a memo that the product for h wrote; that is decided when h is
// made. Otherwise f'(z) is applied by a sweep of its own, from h (relu) or z (gelu).
#include "ops/feed_forward.h"

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/dropout.h"
#include "ops/feed_forward_kernel.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"
#include "ops/products/linear_parts.h"
#include "ops/recorded_vjp.h"

namespace tandem {
namespace {

using detail::FusedMatmul;

bool needs_gradient(const Tensors& in, size_t begin, size_t end) {
  bool needed = false;
  for (size_t i = begin; i < end; ++i) needed |= in[i].defined() && in[i].requires_grad();
  return needed && grad_enabled();
}

Tensor composed(const Tensors& in, Activation activation, const Noise& noise) {
  // The same bits whichever inputs need a gradient: a CPU's gelu within a product is not quite that of a
  // recorded layer.
  const bool alone =
      !needs_gradient(in, 0, 3) && needs_gradient(in, 3, 5) && derivative_needs_input(activation);
  const Tensor z = linear(in[0], in[1], in[2], alone ? Activation::none : activation);
  const Tensor h = alone ? detail::activate(z, activation) : z;
  return linear(noise.active() ? dropout(h, noise) : h, in[3], in[4]);
}

struct FeedForward final : Op {
  enum Saved { kX, kWeight1, kBias1, kWeight2, kBias2, kHidden, kMemo };
  Activation activation;
  DType dtype;  // of both products
  Noise noise;
  bool fused = false;  // whether the memo is the library's; else it is z, or nothing for relu
  FeedForward(Activation activation, DType dtype, const Noise& noise)
      : activation(activation), dtype(dtype), noise(noise) {}
  const char* name() const override { return "feed_forward"; }

  Tensor forward(const Tensors& in) override {
    for (const Tensor& x : in) save(x);
    if (noise.active()) set_passes(noise.passes());
    const Tensor hidden = output(with_last(in[0].shape(), in[1].size(0)), dtype, in[0].device());
    const Tensor memo = noise.active() ? make_dropped(in, hidden) : make_hidden(in, hidden);
    save(hidden), save(memo);
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

  // The same with dropout.
  Tensor make_dropped(const Tensors& in, const Tensor& hidden) {
    const bool keeps_z = recording() && activation != Activation::relu;
    const bool in_place = !keeps_z && in[0].passes() == hidden.passes();
    const Tensor z = in_place ? hidden : empty(hidden.shape(), {dtype, hidden.device()}, in[0].passes());
    detail::matmul_on(z, detail::linear_product(in[0], in[1], in[2], z).args);
    for_hidden(z, hidden, [&]<class T>(detail::HiddenDropout<T> args) { run_on_device(z, args); });
    return keeps_z ? z : Tensor();
  }
  // Calls f with the arguments of the kernels that take x and y through the noise.
  template <class F> void for_hidden(const Tensor& x, const Tensor& y, F f) const {
    if (y.numel() == 0) return;
    const Noise::Spans spans = noise.spans(name(), y.shape());
    dispatch_floating(name(), y.dtype(), [&]<class T>() {
      const detail::DropRows<T> rows{.x = x.device_data<T>(),
                                     .y = y.device_data<T>(),
                                     .onto = nullptr,
                                     .x_pass = x.pass_stride(),
                                     .y_pass = y.pass_stride(),
                                     .onto_pass = 0,
                                     .samples = spans.size(),
                                     .row = spans.longest()};
      detail::for_passes<detail::HiddenDropout<T>>(noise, rows, [&](detail::HiddenDropout<T> args) {
        args.activation = activation;
        f(args);
      });
    });
  }

  Tensors vjp(const Tensor& cotangent) override {
    if (grad_enabled())
      return detail::recorded_vjp(
          *this, {saved(kX), saved(kWeight1), saved(kBias1), saved(kWeight2), saved(kBias2)}, cotangent,
          [&](const Tensors& in) { return composed(in, activation, noise); });
    const Tensor g = dense(cotangent), x = saved(kX), weight1 = saved(kWeight1), weight2 = saved(kWeight2);
    const detail::LinearGradients second =
        detail::linear_gradients(g, saved(kHidden), weight2.dtype(), needs(kWeight2), needs(kBias2));
    if (!needs(kX) && !needs(kWeight1) && !needs(kBias1)) return {{}, {}, {}, second.weight, second.bias};
    Tensor dbias1;
    const Tensor dz = noise.active() ? dropped_gradient(g, weight2, x.passes(), dbias1)
                                     : hidden_gradient(g, weight2, dbias1);
    const detail::LinearGradients first =
        detail::linear_gradients(dz, x, weight1.dtype(), needs(kWeight1), needs(kBias1) && !dbias1.defined());
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

  // The same with dropout, of so many passes.
  Tensor dropped_gradient(const Tensor& g, const Tensor& weight2, int passes, Tensor& dbias1) const {
    const Tensor hidden = saved(kHidden), dh = empty_like(hidden),
                 weight = detail::cached_cast(weight2, dtype);
    detail::matmul_on(dh, {.a = detail::as_matrix(detail::fold_rows(g)),
                           .b = detail::as_matrix(weight),
                           .c = detail::as_matrix(detail::fold_rows(dh))});
    const Tensor dz = passes == dh.passes() ? dh : empty(dh.shape(), {dtype, dh.device()}, passes);
    if (needs(kBias1)) dbias1 = detail::empty_sums(dz);
    if (dh.numel() == 0 && dbias1.defined()) dbias1.zero_();
    for_hidden(activation == Activation::relu ? hidden : saved(kMemo), dh,
               [&]<class T>(const detail::HiddenDropout<T>& args) {
                 detail::HiddenDropoutGrad<T> of{args};
                 of.g = args.y, of.dz = dz.device_data<T>(), of.dz_pass = dz.pass_stride();
                 of.sums = dbias1.defined() ? dbias1.device_data<accumulate_t<T>>() : nullptr;
                 of.cols = dh.size(-1);
                 run_on_device(dh, of);
               });
    return dz;
  }
};

// Whether the kernels take this noise of the hidden layer: samples are of whole rows, and each row of whole
// blocks of draws.
bool takes(const Noise& noise, const Tensor& x, int64_t hidden) {
  if (noise.packed.defined() || noise.passes() > detail::kPassesAtOnce || hidden == 0 ||
      hidden % detail::kHiddenVector != 0 || (x.passes() > 1 && x.passes() != noise.passes()))
    return false;
  return noise.spans("feed_forward", FeedForward::with_last(x.shape(), hidden)).longest() % hidden == 0;
}

}  // namespace

Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation, const Noise& noise) {
  const Tensors in{x, weight1, bias1, weight2, bias2};
  const auto other_way = [&] { return composed(in, activation, noise); };  // which says what is wrong, too
  const bool known = activation == Activation::relu || activation == Activation::gelu_tanh ||
                     (noise.active() && activation == Activation::gelu);
  if (x.device() == kCpu || !(grad_enabled() || noise.active()) || !known) return other_way();
  for (const Tensor& t : in)
    if (t.defined() && (!is_floating(t.dtype()) || (&t != &in[0] && t.passes() > 1))) return other_way();
  const auto fits = [](const Tensor& weight, const Tensor& bias, int64_t inputs) {
    return weight.dim() == 2 && weight.size(1) == inputs &&
           (!bias.defined() || bias.shape() == Shape{weight.size(0)});
  };
  if (x.dim() == 0 || !fits(weight1, bias1, x.size(-1)) || !fits(weight2, bias2, weight1.size(0)) ||
      (noise.active() && !takes(noise, x, weight1.size(0))))
    return other_way();
  const DType dtype = detail::linear_dtype(x.dtype(), weight1, bias1);
  const DType second = detail::linear_dtype(dtype, weight2, bias2);
  return dtype == second ? apply<FeedForward>(in, activation, dtype, noise) : other_way();
}

Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
                    const Tensor& bias2, Activation activation) {
  return feed_forward(x, weight1, bias1, weight2, bias2, activation, Noise{});
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

const RegisterOp feed_forward_dropout_op(
    "feed_forward_dropout",
    [](OpCases& c) {
      const auto f = [](Activation activation, PassOptions passes) {
        return [=](const Tensors& in) {
          PassContext context(passes);
          return feed_forward(in[0], in[1], in[2], in[3], in[4], activation,
                              context.noise(Purpose::dropout, 0.4));
        };
      };
      const auto inputs = [&](const Shape& x, int64_t hidden) {
        return Tensors{c.normal(x), c.normal({hidden, 3}), c.normal({hidden}), c.normal({2, hidden}),
                       c.normal({2})};
      };
      const PassOptions two{.seed = 5, .count = 2};
      c.sample("gelu, makes 2 passes", inputs({3, 2, 3}, 16), f(Activation::gelu, two));
      c.sample("gelu_tanh, one pass", inputs({5, 3}, 8), f(Activation::gelu_tanh, {.seed = 5}));
      c.sample("gelu_tanh, rates", inputs({2, 3}, 8),
               f(Activation::gelu_tanh, {.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
      c.sample("no whole blocks", inputs({2, 3}, 5), f(Activation::gelu, two));
      c.sample("one sample of two rows", inputs({4, 3}, 8), f(Activation::gelu, {.seed = 5, .batch = 2}));
      c.sample("empty", inputs({0, 3}, 8), f(Activation::gelu, two));
      // Away from relu's kink: |x W^T| < 0.12 beside |bias| > 0.2.
      c.sample("relu, makes 2 passes",
               {c.uniform({2, 3}, -0.2, 0.2), c.uniform({8, 3}, -0.2, 0.2), c.away_from_zero({8}),
                c.normal({2, 8}), c.normal({2})},
               f(Activation::relu, two));
      c.fails<ShapeError>("inputs", "linear: x f32[2,3] does not fit weight f32[4,5], expected x [..., 5]",
                          {zeros({2, 3}), zeros({4, 5}), {}, zeros({2, 4}), {}}, f(Activation::relu, two));
    },
    {.draws_noise = true});

}  // namespace
}  // namespace tandem
