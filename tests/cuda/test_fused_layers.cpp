// Layers whose parts are one op on the device, against the parts: queries, keys and values as one product,
// and a feed-forward layer's dropout between its products.
#include <cmath>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/layers.h"
#include "ops/feed_forward.h"
#include "ops/joined_linear.h"
#include "ops/ops.h"
#include "ops/self_attention.h"
#include "tests/cuda/compare.h"
#include "tests/cuda/cudnn_use.h"
#include "tests/cuda/launched.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

double tolerance(DType dtype) { return dtype == DType::bf16 ? 2e-2 : dtype == DType::f32 ? 5e-6 : 1e-12; }

// y, and the gradients of all inputs that are defined, for a cotangent of y's.
Tensors run(const Function& f, const Tensors& inputs) {
  const Tensors in = leaves_on(device(), inputs);
  const Tensor y = f(in);
  y.backward(cotangent_like(y.detach(), 9));
  Tensors result{y.detach()};
  for (const Tensor& x : in)
    if (x.defined() && x.requires_grad()) result.push_back(x.grad());
  return result;
}

void check_same(const Tensors& got, const Tensors& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i].to(kCpu), expected[i].to(kCpu)));
}
void check_close(const Tensors& got, const Tensors& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const Closeness c = close(got[i].to(kCpu), expected[i].to(kCpu), tolerance);
    CHECK_MESSAGE(c.close, i, ": ", c.message);
  }
}

struct Root : nn::Module {};

}  // namespace

TEST_CASE("self_attention on the device is attention of its three parts, to the last bit") {
  for (const char* use : {"always", "never"}) {
    const CudnnUse cudnn(use);
    for (const DType dtype : {DType::bf16, DType::f32, DType::f64})
      for (const int passes : {1, 2})
        for (const bool masked : {false, true})
          for (const double rate : {0.0, 0.3}) {
            INFO("cudnn ", std::string(use), ", ", std::string(name_of(dtype)), ", passes ", passes,
                 ", masked ", masked, ", dropout ", rate);
            const int64_t batch = 2, length = 37, heads = 2, dim = 16;
            const Tensor mask = masked ? gt(normal({batch, length}, 5), 1).to(device()) : Tensor();
            const AttentionOptions options{.causal = !masked, .dropout = rate};
            const Tensors in{normal({batch, length, 3 * heads * dim}, 1, dtype, passes)};
            const PassOptions two{.seed = 1, .count = 2};
            check_same(run(
                           [&](const Tensors& x) {
                             const PassContext context(two);
                             return self_attention(x[0], heads, options, mask);
                           },
                           in),
                       run(
                           [&](const Tensors& x) {
                             const PassContext context(two);
                             const Tensor parts =
                                 x[0].reshape({batch, length, 3, heads, dim}).permute({2, 0, 3, 1, 4});
                             return attention(parts[0], parts[1], parts[2], options, mask)
                                 .transpose(1, 2)
                                 .flatten(2);
                           },
                           in));
          }
  }
}

TEST_CASE("self_attention of packed rows on the device is the CPU's") {
  const PackedRows rows({{1, 2}, {0, 7}, {3, 3}}, 8);
  for (const DType dtype : {DType::bf16, DType::f32})
    agree(
        {normal({8, 48}, 1, dtype)},
        [&](const Tensors& in) {
          const PassContext context({.seed = 1, .count = 2});
          return self_attention(in[0], 2, {.causal = true, .dropout = 0.2}, {}, rows);
        },
        aligned(tolerance(dtype)));
}

TEST_CASE("attention's layer on the device, of one product for q, k and v, is that of three") {
  for (const bool bias : {true, false})
    for (const DType compute : {DType::f32, DType::bf16}) {
      INFO("bias ", bias, ", ", std::string(name_of(compute)));
      const nn::InitScope init({.seed = 3, .device = device()});
      Root root;
      nn::MultiheadAttention layer(root, "attn", 32, 2, {.dropout = 0.1, .qkv_bias = bias});
      const auto fill_biases = [&] {
        const NoGradGuard no_grad;
        for (const nn::NamedTensor& p : layer.named_parameters())
          if (p.name.ends_with("bias")) Tensor(p.tensor).copy_(normal(p.tensor.shape(), 4).to(device()));
      };
      fill_biases();
      const auto gradients = [&](const std::function<Tensor(const Tensor&)>& f) {
        layer.zero_grad();
        const PassContext context({.seed = 1, .count = 2, .compute = compute});
        Tensors result =
            run([&](const Tensors& in) { return f(in[0]); }, {normal({2, 5, 32}, 1, DType::f32, 2)});
        for (const Tensor& p : layer.parameters()) result.push_back(p.grad());
        return result;
      };
      const Tensors got = gradients([&](const Tensor& x) { return layer(x); });
      for (const Tensor& p : layer.parameters()) CHECK(p.grad().is_contiguous());
      const Tensors expected = gradients([&](const Tensor& x) {
        const Scope scope(layer.path());
        const Tensor y = nn::to_compute(x);
        const auto heads = [&](nn::Linear& part) { return part(y).view({2, 5, 2, 16}).transpose(1, 2); };
        const Tensor q = heads(layer.q_proj), k = heads(layer.k_proj), v = heads(layer.v_proj);
        return layer.out_proj(attention(q, k, v, {.dropout = 0.1}).transpose(1, 2).flatten(2));
      });
      check_close(got, expected, tolerance(compute));
      // After an update of one of them, the joined weight is another one.
      {
        const NoGradGuard no_grad;
        layer.k_proj.weight.mul_(2);
      }
      const Tensors changed = gradients([&](const Tensor& x) { return layer(x); });
      CHECK(!close(changed[0].to(kCpu), got[0].to(kCpu), 1e-2).close);
    }
}

TEST_CASE("device feed_forward with dropout between its products is the parts, with the same masks") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const Activation activation : {Activation::relu, Activation::gelu, Activation::gelu_tanh})
      for (const int64_t hidden : {24, 264, 7})
        for (const int passes : {1, 3})  // of x
          for (const bool bias : {true, false}) {
            INFO(std::string(name_of(dtype)), ", activation ", int(activation), ", hidden ", hidden,
                 ", passes ", passes, ", bias ", bias);
            const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
            // Biases of bf16's values, so that a relu at 0 does not tell the two apart.
            const Tensors in{normal({2, 5, 8}, 1, dtype, passes), normal({hidden, 8}, 2, wide),
                             bias ? normal({hidden}, 3, DType::bf16).to(wide) : Tensor(),
                             normal({6, hidden}, 4, wide),
                             bias ? normal({6}, 5, DType::bf16).to(wide) : Tensor()};
            const PassOptions three{.seed = 2, .count = 3, .rates = {0.1, 0, 0.5}};
            check_close(run(
                            [&](const Tensors& x) {
                              PassContext context(three);
                              return feed_forward(x[0], x[1], x[2], x[3], x[4], activation,
                                                  context.noise(Purpose::dropout, 0.1));
                            },
                            in),
                        run(
                            [&](const Tensors& x) {
                              const PassContext context(three);
                              return linear(dropout(linear(x[0], x[1], x[2], activation), 0.1), x[3], x[4]);
                            },
                            in),
                        tolerance(dtype));
          }
}

// What was dropped gives 0, whatever it is; what was kept and not above 0 gives 0, too.
TEST_CASE("device feed_forward with dropout: NaN in a relu's gradient reaches what was kept, alone") {
  const int64_t hidden = 64;
  Tensor x = normal({4, 8}, 1), g = normal({4, hidden}, 2);
  g.select(0, 1).fill_(std::nan(""));
  // The second product is the identity: y is h, and all of dh's row is NaN.
  const Tensors in = leaves_on(device(), {x, normal({hidden, 8}, 3), normal({hidden}, 4), eye(hidden)});
  PassContext context({.seed = 2});
  const Noise noise = context.noise(Purpose::dropout, 0.5);
  const Tensor y = feed_forward(in[0], in[1], in[2], in[3], {}, Activation::relu, noise);
  y.backward(g.to(device()));
  const std::vector<double> sums = values(in[2].grad().to(kCpu)), kept = values(y.to(kCpu));
  for (int64_t j = 0; j < hidden; ++j) {
    CHECK(std::isnan(sums[static_cast<size_t>(j)]) == (kept[static_cast<size_t>(hidden + j)] > 0));
  }
}

TEST_CASE(
    "device feed_forward with dropout: one kernel between the products, one and the sums of columns back") {
  if (!simulator_or_message()) return;
  const Tensors in = leaves_on(device(), {normal({2, 40, 16}, 1, DType::bf16), normal({64, 16}, 2),
                                          normal({64}, 3), normal({16, 64}, 4), normal({16}, 5)});
  PassContext context({.seed = 2, .count = 2});
  const Noise noise = context.noise(Purpose::dropout, 0.5);
  const auto forward = [&] {
    return feed_forward(in[0], in[1], in[2], in[3], in[4], Activation::gelu, noise);
  };
  forward();  // weights are converted once
  Tensor y;
  CHECK(launched([&] { y = forward(); }) == std::vector<std::string>{"hidden_dropout_kernel"});
  const Tensor g = cotangent_like(y.detach(), 9);
  const auto names = launched([&] { y.backward(g); });
  CHECK(std::count(names.begin(), names.end(), "hidden_dropout_grad_kernel") == 1);
  CHECK(std::count(names.begin(), names.end(), "dropout_kernel") == 0);
}

TEST_CASE("device feed_forward with dropout: the first bias' gradient of many rows") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    INFO(std::string(name_of(dtype)));
    const Tensors in{normal({3, 450, 8}, 1, dtype), normal({40, 8}, 2, dtype), normal({40}, 3, dtype),
                     normal({6, 40}, 4, dtype)};
    const auto with = [&](bool fused) {
      return run(
          [&](const Tensors& x) {
            PassContext context({.seed = 2, .count = 2});
            const Noise noise = context.noise(Purpose::dropout, 0.1);
            if (fused) return feed_forward(x[0], x[1], x[2], x[3], {}, Activation::gelu, noise);
            return linear(dropout(linear(x[0], x[1], x[2], Activation::gelu), noise), x[3]);
          },
          in);
    };
    check_close(with(true), with(false), tolerance(dtype));
  }
}
