#include <cmath>
#include <memory>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "autograd/random.h"
#include "nn/layers.h"
#include "ops/arithmetic.h"
#include "ops/indexing.h"
#include "ops/join.h"
#include "tests/golden.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

struct Root : Module {};

Activation activation_of(const Json& config) {
  return config["activation"] == "relu" ? Activation::relu : Activation::gelu;
}

// Runs a golden case on `layer`, called by `call`, and compares output and all gradients.
template <class Layer, class Call> void check_golden(const Json& test, Layer& layer, Call call) {
  StateDict state;
  for (const auto& [name, value] : test["parameters"].items()) state.push_back({name, golden_tensor(value)});
  layer.load_state_dict(state);
  std::map<std::string, Tensor> inputs;
  for (const auto& [name, value] : test["inputs"].items()) {
    inputs[name] = golden_tensor(value);
    if (test["input_grads"].contains(name)) inputs[name].requires_grad_();
  }
  const Tensor y = call(inputs);
  CHECK(difference(y, golden_tensor(test["output"])) < 1e-10);
  y.backward(golden_tensor(test["cotangent"]));
  double scale = 0;  // of all gradients: some true ones are 0
  for (const char* kind : {"input_grads", "parameter_grads"})
    for (const auto& [name, value] : test[kind].items())
      for (const double v : value["data"]) scale = std::max(scale, std::abs(v));
  for (const auto& item : test["input_grads"].items()) {
    INFO(item.key());
    CHECK(difference(inputs[item.key()].grad(), golden_tensor(item.value()), scale) < 1e-10);
  }
  for (const NamedTensor& p : layer.named_parameters()) {
    INFO(p.name);
    CHECK(difference(p.tensor.grad(), golden_tensor(test["parameter_grads"][p.name]), scale) < 1e-10);
  }
}

TEST_CASE("layers: golden attention and encoder layers, values and gradients") {
  const InitScope scope{{.dtype = DType::f64}};
  int cases = 0;
  for (const Json& test : golden("layers.json")) {
    const Json& config = test["config"];
    INFO(test["layer"].get<std::string>() << " " << config.dump());
    Root root;
    if (test["layer"] == "MultiheadAttention") {
      MultiheadAttention layer(root, "attn", config["embed_dim"], config["num_heads"],
                               {.causal = config["causal"], .bias = config["bias"]});
      check_golden(test, layer, [&](auto& in) {
        return layer(in["query"], in.count("memory") ? in["memory"] : in["query"],
                     in.count("key_padding_mask") ? in["key_padding_mask"] : Tensor());
      });
    } else {
      TransformerEncoderLayer layer(root, "block", config["d_model"], config["num_heads"],
                                    config["dim_feedforward"],
                                    {.activation = activation_of(config),
                                     .norm_first = config["norm_first"],
                                     .norm_eps = config["norm_eps"],
                                     .causal = config["causal"]});
      check_golden(test, layer, [&](auto& in) {
        return layer(in["x"], in.count("key_padding_mask") ? in["key_padding_mask"] : Tensor());
      });
    }
    ++cases;
  }
  CHECK(cases == 10);
}

TEST_CASE("layers: initial values have the bounds of PyTorch's defaults") {
  Root root;
  const auto bound = [](const Tensor& x, double expected) {
    double largest = 0;
    for (const double v : values(x)) largest = std::max(largest, std::abs(v));
    CHECK(largest <= expected * (1 + 1e-6));
    CHECK(largest > 0.98 * expected);
  };
  Linear linear(root, "linear", 400, 300);
  bound(linear.weight, 0.05);
  bound(linear.bias, 0.05);
  Conv2d conv(root, "conv", 8, 40, 5, {.stride = {2, 2}, .groups = 2});
  bound(conv.weight, 0.1);
  bound(conv.bias, 0.1);
  MultiheadAttention attn(root, "attn", 96, 4);
  bound(attn.q_proj.weight, std::sqrt(6.0 / (96 + 3 * 96)));
  bound(attn.out_proj.weight, 1 / std::sqrt(96.0));
  CHECK(values(attn.v_proj.bias) == std::vector<double>(96, 0));
  CHECK(values(attn.out_proj.bias) == std::vector<double>(96, 0));
  CHECK(values(attn.q_proj.weight) != values(attn.k_proj.weight));
}

TEST_CASE("layers: noise is there in training, gone in evaluation and where p is 0") {
  struct Model : Module {
    Dropout drop{*this, "drop", 0.5}, none{*this, "none", 0};
    DropPath path{*this, "path", 0.5}, straight{*this, "straight", 0};
    MultiheadAttention attn{*this, "attn", 8, 2, {.dropout = 0.5}};
  } model;
  const Tensor x = normal({16, 4, 8}, 1);
  const PassContext context({.seed = 3, .count = 2});
  CHECK(model.drop(x).passes() == 2);
  CHECK(model.path(x).passes() == 2);
  CHECK(model.attn(x).passes() == 2);
  CHECK(model.none(x).impl() == x.impl());
  CHECK(model.straight(x).impl() == x.impl());
  const auto same_passes = [](const Tensor& y) { return values(y.pass(0)) == values(y.pass(1)); };
  CHECK_FALSE(same_passes(model.drop(x)));
  CHECK_FALSE(same_passes(model.path(x)));
  CHECK_FALSE(same_passes(model.attn(x)));
  model.eval();
  CHECK(model.drop(x).impl() == x.impl());
  CHECK(model.path(x).impl() == x.impl());
  CHECK(model.attn(x).passes() == 1);
}

TEST_CASE("layers: a dropout that ends a branch gives the sum, and its layer or RMS norm") {
  Root root;
  Dropout drop(root, "drop", 0.5);
  LayerNorm layer_norm(root, "layer", 8);
  RMSNorm rms(root, "rms", 8, 0.1);
  const Tensor x = normal({3, 8}, 1), z = normal({3, 8}, 2);
  const auto check = [&](auto& norm) {
    const PassContext context({.seed = 3, .count = 2});
    const auto [sum, normed] = drop(z, x, norm);
    const PassContext again({.seed = 3, .count = 2});
    CHECK(values(sum) == values(x + drop(z)));
    CHECK(values(normed) == values(norm(sum)));
  };
  check(layer_norm);
  check(rms);
  root.eval();
  CHECK(values(drop(z, x, rms).norm) == values(rms(x + z)));
}

TEST_CASE("layers: drop_path drops whole samples at its own rate, the same however the batch is split") {
  Root root;
  DropPath path(root, "path", 0.25);
  const Tensor x = ones({400, 6});
  const auto run = [&](const Tensor& part, uint64_t offset) {
    const PassContext context({.seed = 1, .count = 2, .rates = {0.25, 0.5}, .sample_offset = offset});
    return path(part);
  };
  const Tensor y = run(x, 0);
  for (const int pass : {0, 1}) {
    const double rate = 0.25;  // its own: the rates per pass are dropout's
    const auto noisy = values(y.pass(pass));
    int kept = 0;
    for (int sample = 0; sample < 400; ++sample) {
      const double first = noisy[sample * 6];
      kept += first != 0;
      for (int i = 0; i < 6; ++i) {
        CHECK(noisy[sample * 6 + i] == first);
        CHECK((first == 0 || first == doctest::Approx(1 / (1 - rate))));
      }
    }
    CHECK(std::abs(kept / 400.0 - (1 - rate)) < 0.1);  // four standard deviations
  }
  const Tensor tail = run(x.slice(0, 100, 400), 100);
  CHECK(values(tail.pass(1)) == values(y.pass(1).slice(0, 100, 400)));
}

TEST_CASE(
    "layers: batch norm's running statistics are committed once, as the average of passes and "
    "micro-batches") {
  const InitScope scope{{.dtype = DType::f64}};
  Root root;
  BatchNorm2d norm(root, "norm", 2, {.momentum = 0.25});
  const auto mean_of = [](const Tensor& x, int channel) { return x.select(1, channel).mean().item(); };
  const Tensor a = normal({3, 2, 2, 2}, 1, DType::f64), b = normal({3, 2, 2, 2}, 2, DType::f64),
               c = normal({3, 2, 2, 2}, 3, DType::f64);
  {
    const PassContext stacked({.count = 2});
    norm(stack_passes({a, b}));
  }
  norm(c);
  {
    const PassContext again({.updates_statistics = false});
    norm(a * 100.0);
  }
  CHECK(values(norm.running_mean) == std::vector<double>(2, 0));  // not yet
  root.commit_statistics();
  const auto var_of = [](const Tensor& x, int channel) {
    double mean = 0, squares = 0;
    for (const double v : values(x.select(1, channel))) mean += v / 12;
    for (const double v : values(x.select(1, channel))) squares += (v - mean) * (v - mean);
    return squares / 11;
  };
  for (const int channel : {0, 1}) {
    const double mean = (mean_of(a, channel) + mean_of(b, channel) + mean_of(c, channel)) / 3;
    const double var = (var_of(a, channel) + var_of(b, channel) + var_of(c, channel)) / 3;
    CHECK(values(norm.running_mean)[channel] == doctest::Approx(0.25 * mean).epsilon(1e-12));
    CHECK(values(norm.running_var)[channel] == doctest::Approx(0.75 + 0.25 * var).epsilon(1e-12));
  }
  const auto before = values(norm.running_mean);
  root.commit_statistics();  // nothing new
  norm.eval();
  norm(a);
  root.commit_statistics();
  CHECK(values(norm.running_mean) == before);
  // Evaluation uses them: y = (x - mean) / sqrt(var + eps).
  const double expected = (values(a)[0] - before[0]) / std::sqrt(values(norm.running_var)[0] + 1e-5);
  CHECK(values(norm(a))[0] == doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("layers: options out of range name layer and path") {
  Root root;
  const auto refused = [](const std::string& text, auto make) {
    const std::string message = message_of<ConfigError>(make);
    CHECK_MESSAGE(contains(message, text), message);
  };
  refused("Dropout: expected a rate in [0, 1), got 1; in drop", [&] { Dropout(root, "drop", 1); });
  refused("Dropout: expected a rate in [0, 1), got nan", [&] { Dropout(root, "drop", NAN); });
  refused("DropPath: expected a rate in [0, 1), got -0.1", [&] { DropPath(root, "path", -0.1); });
  refused("Linear: expected sizes of at least 1, got [0,3]; in fc", [&] { Linear(root, "fc", 0, 3); });
  refused("MultiheadAttention: 3 heads do not divide dim 8; in attn",
          [&] { MultiheadAttention(root, "attn", 8, 3); });
  refused("MultiheadAttention: expected sizes", [&] { MultiheadAttention(root, "attn", 8, 0); });
  refused("MultiheadAttention: expected a rate",
          [&] { MultiheadAttention(root, "attn", 8, 2, {.dropout = 1}); });
  refused("LayerNorm: expected sizes", [&] { LayerNorm(root, "norm", 0); });
  refused("BatchNorm2d: momentum is 2", [&] { BatchNorm2d(root, "norm", 3, {.momentum = 2}); });
  refused("Embedding: padding_idx is 3, expected a row of 3; in table",
          [&] { Embedding(root, "table", 3, 2, 3); });
  refused("Embedding: padding_idx is -1", [&] { Embedding(root, "table", 3, 2, -1); });
  refused("Conv2d: 2 groups do not divide 3 and 4 channels; in conv",
          [&] { Conv2d(root, "conv", 3, 4, 1, {.groups = 2}); });
  refused("Conv2d: expected a kernel {height, width}, got [3]",
          [&] { Conv2d(root, "conv", 3, 4, Shape{3}); });
  refused("Conv2d: expected sizes of at least 1, got [3,4,0,0,1]", [&] { Conv2d(root, "conv", 3, 4, 0); });
  CHECK(root.children().empty());
  MultiheadAttention attn(root, "attn", 8, 2);
  check_throws<ShapeError>("; in attn.q_proj", [&] { attn(zeros({2, 3, 7})); });
  check_throws<ShapeError>("expected query [B, T, dim]", [&] { attn(zeros({3, 8})); });
}

TEST_CASE("layers: a cache of keys and values is what was appended, in the rows that were kept") {
  const NoGradGuard no_grad;
  nn::KeyValueCache cache;
  CHECK(!cache.all().keys.defined());
  cache.select(from_values(std::vector<int64_t>{0}, {1}));  // of nothing
  Tensors keys, values;
  for (uint64_t n = 0; n < 40; ++n) {  // more than there is room for at first
    const int64_t length = n == 7 ? 3 : 1;
    keys.push_back(randn({3, 2, length, 4}, {.seed = 2 * n}));
    values.push_back(randn({3, 2, length, 5}, {.seed = 2 * n + 1}));
    cache.append({keys.back(), values.back()});
    CHECK(difference(cache.all().keys, cat(keys, 2)) == 0);
    CHECK(difference(cache.all().values, cat(values, 2)) == 0);
  }
  CHECK(cache.length() == 42);
  const auto index = [](const std::vector<int64_t>& rows) { return from_values(rows, {std::ssize(rows)}); };
  cache.copy_rows(index({2}), index({0}));
  CHECK(difference(cache.all().values, index_select(cat(values, 2), 0, index({2, 1, 2}))) == 0);
  cache.select(index({1, 0, 0, 2}));
  CHECK(difference(cache.all().keys, index_select(cat(keys, 2), 0, index({1, 2, 2, 2}))) == 0);
  const GradMode recorded(true);
  check_throws<AutogradError>("expected a NoGradGuard", [&] { cache.append({keys[0], values[0]}); });
}

TEST_CASE("layers: convolution and embedding") {
  Root root;
  Conv2d conv(root, "conv", 2, 4, {3, 1}, {.stride = {2, 1}, .padding = {1, 0}, .bias = false});
  CHECK(conv(zeros({5, 2, 8, 6})).shape() == Shape{5, 4, 4, 6});
  CHECK_FALSE(conv.bias.defined());
  check_throws<ShapeError>("; in conv", [&] { conv(zeros({5, 3, 8, 6})); });
  Embedding table(root, "table", 6, 3, 1);
  const Tensor rows = table(from_values(std::vector<int64_t>{0, 1, 5, 0}, {2, 2}));
  CHECK(rows.shape() == Shape{2, 2, 3});
  CHECK(values(rows[1][0]) == values(table.weight[5]));
  CHECK(values(rows[0][1]) == std::vector<double>(3, 0));
  rows.sum().backward();
  CHECK(values(table.weight.grad().sum({1})) == std::vector<double>{6, 0, 0, 0, 0, 3});
  check_throws<ValueError>("; in table", [&] { table(from_values(std::vector<int64_t>{6}, {1})); });
}

TEST_CASE("layers: the encoder layer's noise falls on its branches alone") {
  Root root;
  TransformerEncoderLayer block(
      root, "block", 8, 2, 16,
      {.dropout = 0.1, .attention_dropout = 0.1, .activation_dropout = 0.1, .drop_path = 0.6});
  const Tensor x = normal({64, 3, 8}, 1);
  const PassContext context({.seed = 4, .count = 2});
  const Tensor y = block(x);
  // A sample both of whose branches are dropped passes through unchanged.
  int unchanged = 0;
  for (int sample = 0; sample < 64; ++sample) unchanged += values(y.pass(0)[sample]) == values(x[sample]);
  CHECK(unchanged > 10);  // 23 expected
  CHECK(unchanged < 40);
}

}  // namespace
}  // namespace tandem::nn
