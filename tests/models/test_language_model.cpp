// The language model: equal gradients under every plan, what padding and later tokens may not do; LayerDrop
// and word dropout.
#include "models/transformer/language_model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "autograd/grad_mode.h"
#include "autograd/parallel.h"
#include "autograd/pass_context.h"
#include "ops/ops.h"
#include "tests/golden.h"
#include "tests/nn/train/outcome.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using models::LanguageModel;
using models::LanguageModelConfig;

namespace {

const LanguageModelConfig kLanguageModel{.vocab = 14,
                                         .dim = 8,
                                         .heads = 2,
                                         .mlp_dim = 16,
                                         .layers = 3,
                                         .max_positions = 16,
                                         .dropout = 0.3,
                                         .attention_dropout = 0.2,
                                         .activation_dropout = 0.1,
                                         .layer_drop = 0.3,
                                         .word_dropout = 0.2};

// Blocks of tokens that count up from a random one, padded to `length`.
data::Batch counting(int64_t count, int64_t size, int64_t length) {
  std::vector<int64_t> in(count * length), out(count * length);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t t = 0; t < size - i % 2; ++t) {
      in[i * length + t] = 4 + (i * 3 + t) % 10;
      out[i * length + t] = 4 + (i * 3 + t + 1) % 10;
    }
  }
  return {{from_values(in, {count, length})}, from_values(out, {count, length}), {}, count};
}

// What every model here has to keep, given a function from (batches, options, dtype) to an outcome and
// batches of the same samples in a tight and a padded form.
template <class Run>
void check_plans_and_padding(Run run, const data::Batch& tight, const data::Batch& padded) {
  const nn::StepOptions options{.passes = 3, .alpha = 2, .seed = 3, .step = 5};
  check_plans([&](const auto& plan) { return run({tight, padded}, plan, DType::f64); }, options, 1e-10);
  const Outcome a = run({tight}, options, DType::f64), b = run({padded}, options, DType::f64);
  CHECK(a.result.units == b.result.units);
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(1e-12));
  CHECK(distance(a.gradients, b.gradients) < 1e-11);
  // Threads change rounding at most.
  const auto [one, two] = with_one_and_two_threads([&] { return run({padded}, options, DType::f32); });
  CHECK(one.result.loss == doctest::Approx(two.result.loss).epsilon(1e-6));
  CHECK(distance(one.gradients, two.gradients) < 1e-5);
}

}  // namespace

TEST_CASE("a language model with padding: all plans give the same gradients, and padding none") {
  for (bool norm_first : {false, true}) {
    LanguageModelConfig config = kLanguageModel;
    config.norm_first = norm_first;
    check_plans_and_padding(
        [&](const std::vector<data::Batch>& batches, const nn::StepOptions& options, DType dtype) {
          return outcome_of<LanguageModel, models::LanguageModeling>(dtype, batches, options, config);
        },
        counting(5, 6, 6), counting(5, 6, 11));
  }
}

TEST_CASE("an adaptive softmax is PyTorch's, and its probabilities are of all words") {
  const nn::InitScope init({.dtype = DType::f64});
  const Json all = golden("encoder.json");
  int cases = 0;
  for (const Json& test : all) {
    if (test["model"] != "AdaptiveLogSoftmaxWithLoss") continue;
    ++cases;
    const Json& config = test["config"];
    const auto cutoffs = config["cutoffs"].get<std::vector<int64_t>>();
    struct Root : nn::Module {
    } root;
    models::AdaptiveEmbedding embedding(root, "embedding", config["vocab"], config["dim"], 0, cutoffs,
                                        config["factor"]);
    models::AdaptiveSoftmax softmax(root, "softmax", embedding);
    // Their head is ours with the classes under it; their projections are ours turned round.
    const auto theirs = [&](const char* part, const std::string& name) {
      return golden_tensor(test[part][name]);
    };
    const auto head = [&](const char* part, int64_t begin, int64_t end) {
      return theirs(part, "head.weight").slice(0, begin, end);
    };
    const int64_t classes = std::ssize(cutoffs);
    const auto tail = [](size_t i, int layer) { return fmt::format("tail.{}.{}.weight", i, layer); };
    {
      const NoGradGuard no_grad;
      embedding.weight.copy_(head("parameters", 0, cutoffs[0]));
      softmax.classes.copy_(head("parameters", cutoffs[0], cutoffs[0] + classes));
      for (size_t i = 0; i < cutoffs.size(); ++i) {
        embedding.tails[i].project.copy_(theirs("parameters", tail(i, 0)).transpose(0, 1));
        embedding.tails[i].weight.copy_(theirs("parameters", tail(i, 1)));
      }
    }
    const Tensor hidden = golden_tensor(test["hidden"]).requires_grad_();
    const Tensor logs = softmax(hidden);
    CHECK(difference(logs, golden_tensor(test["output"])) < 1e-10);
    for (const double total : sum(exp(logs), {-1}).to_vector<double>())
      CHECK(total == doctest::Approx(1).epsilon(1e-12));
    const LossParts parts = rdrop_cross_entropy(logs, golden_tensor(test["target"]));
    CHECK(difference(parts.loss, golden_tensor(test["loss"])) < 1e-10);
    parts.loss.backward();
    CHECK(difference(hidden.grad(), golden_tensor(test["hidden_grad"])) < 1e-10);
    CHECK(difference(embedding.weight.grad(), head("grads", 0, cutoffs[0])) < 1e-10);
    CHECK(difference(softmax.classes.grad(), head("grads", cutoffs[0], cutoffs[0] + classes)) < 1e-10);
    for (size_t i = 0; i < cutoffs.size(); ++i) {
      CHECK(difference(embedding.tails[i].project.grad(),
                       theirs("grads", tail(i, 0)).transpose(0, 1).contiguous()) < 1e-10);
      CHECK(difference(embedding.tails[i].weight.grad(), theirs("grads", tail(i, 1))) < 1e-10);
    }
    // As an input layer: each word's vector, by its cluster.
    const Tensor vectors =
        embedding(from_values(std::vector<int64_t>{cutoffs[0], 1, cutoffs[0] + 1, 2}, {2, 2}));
    CHECK(vectors.shape() == Shape({2, 2, config["dim"].get<int64_t>()}));
    CHECK(difference(vectors.select(0, 0).select(0, 1), embedding.weight.select(0, 1)) < 1e-12);
    CHECK(difference(vectors.select(0, 1).select(0, 0),
                     matmul(embedding.tails[0].project, embedding.tails[0].weight.select(0, 1).unsqueeze(1))
                         .squeeze(1)) < 1e-12);
  }
  CHECK(cases == 2);
}

TEST_CASE("a language model with an adaptive input and softmax: all plans, and padding none") {
  LanguageModelConfig config = kLanguageModel;
  config.cutoffs = {6, 10}, config.factor = 2;
  check_plans_and_padding(
      [&](const std::vector<data::Batch>& batches, const nn::StepOptions& options, DType dtype) {
        return outcome_of<LanguageModel, models::LanguageModeling>(dtype, batches, options, config);
      },
      counting(5, 6, 6), counting(5, 6, 11));
  config.cutoffs = {10, 6};
  CHECK_THROWS_WITH_AS(LanguageModel{config}, doctest::Contains("cutoffs"), ConfigError);
}

TEST_CASE("a token of a language model sees itself and what is before") {
  const nn::InitScope init({.seed = 7, .dtype = DType::f64});
  LanguageModel model(kLanguageModel);
  model.eval();
  const NoGradGuard no_grad;
  const auto logits = [&](std::vector<int64_t> ids) {
    return model.forward(from_values(ids, {1, 5})).to_vector<double>();
  };
  const auto base = logits({4, 5, 6, 7, 8});
  for (int64_t changed = 0; changed < 5; ++changed) {
    std::vector<int64_t> ids{4, 5, 6, 7, 8};
    ids[changed] = 13;
    const auto other = logits(ids);
    for (int64_t t = 0; t < 5; ++t) {
      const bool same =
          std::equal(base.begin() + t * 14, base.begin() + (t + 1) * 14, other.begin() + t * 14);
      CHECK(same == (t < changed));
    }
  }
}

TEST_CASE("LayerDrop leaves whole layers out, by pass, and none in evaluation") {
  struct Root : nn::Module {
    nn::LayerDrop drop{*this, "drop", 0.4};
  } root;
  const auto layer = [](const Tensor& x) { return x * 10; };
  const Tensor x = ones({2, 3});
  std::map<double, int> seen;
  int mixed = 0;
  for (uint64_t at = 0; at < 300; ++at) {
    const PassContext context({.seed = 1, .step = at, .count = 2, .batch = 2});
    const auto y = root.drop(x, layer).to_vector<double>();
    const std::vector<double> first(y.begin(), y.begin() + 6), last(y.end() - 6, y.end());
    for (const auto& pass : {first, last}) {
      CHECK(std::count(pass.begin(), pass.end(), pass[0]) == 6);  // the whole batch alike
      ++seen[pass[0]];
    }
    mixed += first != last;
    // Each pass by itself leaves out the same.
    for (int i = 0; i < 2; ++i) {
      const PassContext alone({.seed = 1, .step = at, .first = i, .batch = 2});
      CHECK(root.drop(x, layer).to_vector<double>() == (i == 0 ? first : last));
    }
  }
  CHECK(seen.size() == 2);
  CHECK(seen[1] / 600.0 == doctest::Approx(0.4).epsilon(0.15));
  CHECK(mixed / 300.0 == doctest::Approx(2 * 0.4 * 0.6).epsilon(0.2));
  root.eval();
  CHECK(root.drop(x, layer).to_vector<double>() == std::vector<double>(6, 10));
}

TEST_CASE("word dropout replaces whole words, by pass, and none in evaluation") {
  struct Root : nn::Module {
    nn::WordDropout drop{*this, "drop", 0.3};
  } root;
  const Tensor x = ones({50, 20, 2}), other = from_values(std::vector<float>{7, 8}, {2});
  const PassContext context({.seed = 1, .count = 2});
  const auto y = root.drop(x, other).to_vector<double>();
  REQUIRE(y.size() == 2 * 2000);
  int replaced = 0, differ = 0;
  for (size_t i = 0; i < y.size(); i += 2) {
    const bool gone = y[i] == 7;
    CHECK(y[i + 1] == (gone ? 8 : 1));
    replaced += gone;
    differ += i < 2000 && gone != (y[i + 2000] == 7);
  }
  CHECK(replaced / 2000.0 == doctest::Approx(0.3).epsilon(0.1));
  CHECK(differ > 200);
  root.eval();
  CHECK(root.drop(x, other).impl() == x.impl());
}

TEST_CASE("a language model: sizes, and what does not fit") {
  // 40,000 x 768 + 512 x 768 + layers of 7,087,872, of which it has 12, + the last norm.
  LanguageModelConfig gpt = models::language_model_preset("gpt");
  CHECK(std::exchange(gpt.layers, 1) == 12);
  CHECK(LanguageModel(gpt).num_parameters() == 40'512 * 768 + 7'087'872 + 2 * 768);
  CHECK_THROWS_WITH_AS(models::language_model_preset("huge"), doctest::Contains("gpt"), ConfigError);
  LanguageModelConfig config = kLanguageModel;
  config.layer_drop = -1;
  CHECK_THROWS_WITH_AS(LanguageModel{config}, doctest::Contains("layer_drop"), ConfigError);
  config = kLanguageModel;
  config.heads = 3;
  CHECK_THROWS_WITH_AS(LanguageModel{config},
                       doctest::Contains("heads 3 does not divide dim 8, expected 1, 2, 4 or 8"),
                       ConfigError);
  LanguageModel model(kLanguageModel);
  CHECK_THROWS_WITH_AS(model.hidden(from_values(std::vector<int64_t>(17, 5), {1, 17})),
                       doctest::Contains("17 tokens"), ShapeError);
}
