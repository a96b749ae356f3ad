// The loss and single ops on our side.
#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "ops/ops.h"
#include "tools/bench/peers/cases.h"
#include "tools/bench/workloads.h"

namespace tandem::peers {
namespace {

// The loss alone, value and gradient, of the logits of two passes or as many as `passes` says.
Case rdrop(const Sizes& sizes) {
  const int64_t units = sizes["units"], classes = sizes["classes"];
  Tensors each;
  for (int64_t pass = 0; pass < sizes.value_or("passes", 2); ++pass)
    each.push_back(bench::normal({units, classes}, pass + 1, sizes.precision()));
  const Tensor logits = stack_passes(each).requires_grad_();
  const Tensor target = bench::integers({units}, 3, 0, classes);
  return [=] {
    logits.grad() = Tensor();
    rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward();
  };
}

// Attention alone, forward and backward, of heads that lie as layers have them.
Case attention_case(const Sizes& sizes) {
  const auto heads = [&](uint64_t seed) {
    return bench::normal({sizes["batch"], sizes["tokens"], sizes["heads"], sizes["dim"]}, seed,
                         sizes.precision());
  };
  const Tensor q = heads(1).requires_grad_(), k = heads(2).requires_grad_(), v = heads(3).requires_grad_();
  const Tensor gradient = heads(4).transpose(1, 2);
  const AttentionOptions options{.causal = sizes["causal"] != 0,
                                 .dropout = sizes.number("attention_dropout")};
  return [=] {
    for (const Tensor& x : {q, k, v}) x.grad() = Tensor();
    const PassContext context({.seed = 1});
    attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), options).backward(gradient);
  };
}

// What the device can do at all: a copy, a product.
Case copy(const Sizes& sizes) {
  const Tensor from = ones({sizes["bytes"] / 4}, {.device = device()}), to = empty_like(from);
  return [=] {
    const NoGradGuard no_grad;
    to.copy_(from);
  };
}

Case product(const Sizes& sizes) {
  const auto size = [&](const char* name) { return sizes.value_or(name, sizes.value_or("size", 0)); };
  const Tensor a = bench::normal({size("rows"), size("inner")}, 1, sizes.precision()),
               b = bench::normal({size("inner"), size("columns")}, 2, sizes.precision());
  return [=] { matmul(a, b); };
}

// The convolutions of models/cnn alone, forward and backward.
Case convolutions(const Sizes& sizes) {
  const int64_t batch = sizes["batch"], channels = sizes["channels"], width = sizes["width"],
                image = sizes["image"];
  const Tensor x = bench::normal({batch, channels, image, image}, 1),
               w = bench::normal({width, channels, 3, 3}, 2).requires_grad_(),
               half = bench::normal({batch, width, image / 2, image / 2}, 3).requires_grad_(),
               w_half = bench::normal({2 * width, width, 3, 3}, 4).requires_grad_(),
               g = bench::normal({batch, width, image, image}, 5),
               g_half = bench::normal({batch, 2 * width, image / 2, image / 2}, 6);
  return [=] {
    for (const Tensor& t : {w, half, w_half}) t.grad() = Tensor();
    conv2d(x, w, {}, {.padding = {1, 1}}).backward(g);
    conv2d(half, w_half, {}, {.padding = {1, 1}}).backward(g_half);
  };
}

Case tiny_op(const Sizes&) {
  const Tensor x = bench::normal({8}, 1).requires_grad_(), v = ones({8}, {.device = device()});
  return [=] {
    for (int i = 0; i < 1000; ++i) {
      x.grad() = Tensor();
      (x * x).backward(v);
    }
  };
}

// A single op: the inputs of its sizes, the function.
struct SingleOp {
  Tensors inputs;
  Function function;
};

SingleOp single_op(const std::string& name, const Sizes& sizes) {
  const int64_t rows = sizes["rows"], columns = sizes["columns"];
  const auto normal = [](const Shape& shape, uint64_t seed) { return bench::normal(shape, seed); };
  const Tensor x = normal({rows, columns}, 1), row = normal({columns}, 2);
  const auto images = [&] { return normal({rows * columns / (64 * 32 * 32), 64, 32, 32}, 1); };
  if (name == "add") return {{x, normal({rows, columns}, 2)}, call(add)};
  if (name == "add_row") return {{x, row}, call(add)};
  if (name == "mul") return {{x, normal({rows, columns}, 2)}, call(mul)};
  if (name == "relu") return {{x}, call(relu)};
  if (name == "gelu") return {{x}, [](const Tensors& in) { return gelu(in[0]); }};
  if (name == "softmax") return {{x}, [](const Tensors& in) { return softmax(in[0], -1); }};
  if (name == "softmax_columns") return {{x}, [](const Tensors& in) { return softmax(in[0], 0); }};
  if (name == "sum") return {{x}, [](const Tensors& in) { return sum(in[0]); }};
  if (name == "cumsum") return {{x}, [](const Tensors& in) { return cumsum(in[0], -1); }};
  if (name == "sort") return {{x}, [](const Tensors& in) { return sort(in[0], -1).values; }};
  if (name == "transpose") return {{x}, [](const Tensors& in) { return in[0].t().contiguous(); }};
  if (name == "layer_norm")
    return {{x, row, normal({columns}, 3)},
            [columns](const Tensors& in) { return layer_norm(in[0], {columns}, in[1], in[2]); }};
  if (name == "embedding")
    return {{normal({10000, columns}, 1), bench::integers({rows}, 2, 0, 10000)},
            [](const Tensors& in) { return embedding(in[0], in[1]); }};
  if (name == "matmul") return {{normal({columns, columns}, 1), normal({columns, columns}, 2)}, call(matmul)};
  if (name == "max_pool2d") return {{images()}, [](const Tensors& in) { return max_pool2d(in[0], {2, 2}); }};
  if (name == "conv2d")
    return {{images(), normal({64, 64, 3, 3}, 2)}, [](const Tensors& in) {
              return conv2d(in[0], in[1], {}, {.padding = {1, 1}});
            }};
  raise<ConfigError>("unknown op '{}'", name);
}

// It forward without a tape, or forward and backward.
Case op(const Sizes& sizes) {
  const SingleOp made = single_op(sizes.text("name"), sizes);
  const bool backward = sizes["backward"] != 0;
  for (const Tensor& x : made.inputs)
    if (backward && is_floating(x.dtype())) x.requires_grad_();
  const Tensor cotangent = bench::normal(made.function(made.inputs).shape(), 9);
  return [=] {
    if (!backward) {
      const NoGradGuard no_grad;
      made.function(made.inputs);
      return;
    }
    for (const Tensor& x : made.inputs) x.grad() = Tensor();
    made.function(made.inputs).backward(cotangent);
  };
}

// The update alone, of a parameter [rows, columns].
Case adamw(const Sizes& sizes) {
  const Shape shape{sizes["rows"], sizes["columns"]};
  const Tensor parameter = bench::normal(shape, 1).requires_grad_();
  parameter.grad() = bench::normal(shape, 2);
  const auto optimizer = std::make_shared<nn::AdamW>(Tensors{parameter});
  return [=] { optimizer->step(); };
}

}  // namespace

const Cases& op_cases() {
  static const Cases cases = {
      {"rdrop", rdrop}, {"op", op},           {"adamw", adamw},     {"attention", attention_case},
      {"copy", copy},   {"product", product}, {"tiny_op", tiny_op}, {"convolutions", convolutions},
  };
  return cases;
}

}  // namespace tandem::peers
