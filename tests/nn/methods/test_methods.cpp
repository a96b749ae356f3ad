// The methods beside R-Drop: each loss by hand, its gradient, its noise, and that it learns.
#include "nn/methods/methods.h"

#include <cmath>
#include <filesystem>

#include "autograd/engine.h"
#include "models/transformer/text_encoder.h"
#include "models/vit/vit.h"
#include "nn/io/files.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::nn;
using namespace tandem::testing;

namespace {

constexpr int64_t kLevels = 3;

// A network of three levels and a head with dropout before it.
struct Net : Module {
  explicit Net(double rate = 0.3)
      : drop0(*this, "drop0", rate), drop1(*this, "drop1", rate), head_drop(*this, "head_drop", rate) {}
  Tensor features(const Tensor& x, const HiddenHook& hook) {
    const auto at = [&](int64_t level, const Tensor& h) { return hook ? hook(level, h) : h; };
    Tensor h = drop0(at(0, gelu(embed(x))));
    h = drop1(at(1, tanh(first(h))));
    return at(2, tanh(second(h)));
  }
  Tensor head(const Tensor& x) { return out(head_drop(x)); }
  Hookable hookable() {
    return {
        *this, kLevels,
        [this](const data::Batch& batch, const HiddenHook& hook) { return features(batch.inputs[0], hook); },
        [this](const Tensor& x) { return head(x); }};
  }

  Linear embed{*this, "embed", 6, 8}, first{*this, "first", 8, 8}, second{*this, "second", 8, 8},
      out{*this, "out", 8, 4};
  Dropout drop0, drop1, head_drop;
};

std::unique_ptr<Net> net(double rate = 0.3) {
  const InitScope init({.seed = 11, .dtype = DType::f64});
  return std::make_unique<Net>(rate);
}

const data::Batch kBatch = whole(Blobs(12, DType::f64), 0, 12);

// Those that take any samples; test_cutmix.cpp has the one of images.
std::vector<std::string> flat_methods() {
  std::vector<std::string> names = method_names();
  std::erase(names, "cutmix");
  return names;
}

StepOptions step_of(const std::string& method, uint64_t step = 4) {
  return {.passes = method == "rdrop" || method == "multisample" ? 3 : 1,
          .alpha = method == "rdrop" ? 2.0 : 0.0,
          .label_smoothing = method == "fgm" ? 0 : 0.1,
          .seed = 7,
          .step = step};
}

StepResult run(Net& model, const std::string& method, const StepOptions& options,
               const MethodOptions& choices = {}, const std::vector<data::Batch>& batches = {kBatch}) {
  model.zero_grad();
  return accumulate_gradients(*make_method(method, model.hookable(), choices), batches, options);
}

PassOptions pass_of(const StepOptions& o, uint64_t batch = 12) {
  return {.seed = o.seed, .step = o.step, .count = o.passes, .batch = static_cast<int64_t>(batch)};
}

// -log softmax(logits)[label] of a row, with smoothing.
double row_loss(const std::vector<double>& logits, int64_t label, double smoothing) {
  double sum = 0, nll = 0;
  for (double z : logits) sum += std::exp(z);
  for (size_t c = 0; c < logits.size(); ++c)
    nll -= (smoothing / logits.size() + (static_cast<int64_t>(c) == label) * (1 - smoothing)) *
           (logits[c] - std::log(sum));
  return nll;
}

double mean_loss(const Tensor& logits, const std::vector<int64_t>& labels, double smoothing) {
  const auto z = logits.to_vector<double>();
  double sum = 0;
  for (size_t i = 0; i < z.size() / 4; ++i)
    sum += row_loss({z.begin() + 4 * i, z.begin() + 4 * i + 4}, labels[i % labels.size()], smoothing);
  return sum / (z.size() / 4.0);
}

std::vector<int64_t> labels_of(const data::Batch& batch) { return batch.target.to_vector<int64_t>(); }

std::vector<double> norms_of(const Tensor& x) {
  return sqrt(square(x.reshape({x.size(0), -1})).sum({1})).to_vector<double>();
}

// Against central differences of the whole step's loss, at some of each parameter's elements.
void check_gradient(Net& model, const std::string& method, const StepOptions& options) {
  run(model, method, options);
  const auto gradients = flat_gradients(model);
  int64_t at = 0;
  for (const NamedTensor& parameter : model.named_parameters()) {
    auto* value = parameter.tensor.data<double>();
    for (int64_t i = 0; i < parameter.tensor.numel(); i += 7) {
      const double kept = value[i], h = 1e-5;
      value[i] = kept + h;
      const double up = run(model, method, options).loss;
      value[i] = kept - h;
      const double down = run(model, method, options).loss;
      value[i] = kept;
      INFO(method, ": ", parameter.name, "[", i, "]");
      CHECK(std::abs((up - down) / (2 * h) - gradients[at + i]) < 1e-9);
    }
    at += parameter.tensor.numel();
  }
}

uint64_t step_where(const MethodOptions& choices, const std::function<bool(const Mixing&)>& wanted,
                    int64_t levels = kLevels) {
  for (uint64_t step = 0; step < 10'000; ++step) {
    if (wanted(draw_mixing({.seed = 7, .step = step}, kBatch, choices.mixup_alpha, levels))) return step;
  }
  FAIL("no step draws that");
  return 0;
}

}  // namespace

TEST_CASE("methods: plain and rdrop are the classifier's own objective") {
  struct Own : Objective {
    explicit Own(Hookable model) : model(model) {}
    Module& module() override { return model.module; }
    Tensor forward(const data::Batch& batch) override { return model.logits(batch); }
    LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                   int passes) override {
      return rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
    }
    Hookable model;
  };
  const auto model = net();
  for (const std::string method : {"plain", "rdrop"}) {
    const StepResult result = run(*model, method, step_of(method));
    const auto gradients = flat_gradients(*model);
    model->zero_grad();
    Own own(model->hookable());
    CHECK(accumulate_gradients(own, {kBatch}, step_of(method)).loss == result.loss);
    CHECK(flat_gradients(*model) == gradients);
    CHECK((result.kl > 1e-3) == (method == "rdrop"));
  }
}

TEST_CASE("methods: mixup is the mixed cross-entropy of mixed embeddings, by hand") {
  for (const std::string method : {"mixup", "manifold-mixup"}) {
    const int64_t levels = method == "mixup" ? 1 : kLevels;
    for (const int64_t level : {int64_t{0}, levels - 1}) {
      const MethodOptions choices{.mixup_alpha = 1};
      const auto model = net();
      const uint64_t step = step_where(
          choices, [&](const Mixing& m) { return m.level == level && m.lambda > 0.2 && m.lambda < 0.8; },
          levels);
      const StepOptions options = step_of(method, step);
      const Mixing mixing = draw_mixing(pass_of(options), kBatch, 1, levels);
      const double l = mixing.lambda;
      Tensor logits;
      {
        const PassContext context(pass_of(options));
        logits = model->hookable().logits(kBatch, [&](int64_t at, const Tensor& x) {
          if (at != level) return x;
          Tensors rows;
          for (int64_t i = 0; i < 12; ++i) rows.push_back(x[i] * l + x[mixing.order[i]] * (1 - l));
          return stack(rows);
        });
      }
      const auto own = labels_of(kBatch);
      std::vector<int64_t> other;
      for (int64_t partner : mixing.order) other.push_back(own[partner]);
      CHECK(other != own);
      const double expected = l * mean_loss(logits, own, 0.1) + (1 - l) * mean_loss(logits, other, 0.1);
      const StepResult result = run(*model, method, options, choices);
      CHECK(result.loss == doctest::Approx(expected).epsilon(1e-12));
      CHECK(result.ce == doctest::Approx(expected).epsilon(1e-12));
      CHECK(std::abs(run(*model, "plain", step_of("plain", step)).loss - expected) > 1e-4);
    }
  }
}

TEST_CASE("methods: a lambda of 1 is plain training") {
  const MethodOptions choices{.mixup_alpha = 1e-3};  // lambda is 0 or 1 up to rounding
  const auto model = net();
  for (const std::string method : {"mixup", "manifold-mixup"}) {
    const uint64_t step = step_where(choices, [](const Mixing& m) { return m.lambda == 1; });
    const StepResult mixed = run(*model, method, step_of(method, step), choices);
    const auto gradients = flat_gradients(*model);
    const StepResult plain = run(*model, "plain", step_of("plain", step));
    CHECK(mixed.loss == plain.loss);
    CHECK(mixed.accuracy == plain.accuracy);
    CHECK(distance(gradients, flat_gradients(*model)) < 1e-15);
  }
}

TEST_CASE("methods: what mixup draws is spread, and a function of seed, step and place") {
  const PassOptions at{.seed = 7, .step = 3};
  const Mixing first = draw_mixing(at, kBatch, 0.5, kLevels), again = draw_mixing(at, kBatch, 0.5, kLevels);
  CHECK(first.lambda == again.lambda);
  CHECK(first.order == again.order);
  const Mixing later =
      draw_mixing({.seed = 7, .step = 3, .first = 2, .sample_offset = 12}, kBatch, 0.5, kLevels);
  CHECK(later.lambda == first.lambda);  // one for the step
  CHECK(later.level == first.level);
  CHECK(later.order != first.order);
  CHECK(draw_mixing({.seed = 8, .step = 3}, kBatch, 0.5, kLevels).lambda != first.lambda);
  double mean = 0, square = 0;
  std::vector<int> levels(kLevels);
  constexpr int kSteps = 20'000;
  for (uint64_t step = 0; step < kSteps; ++step) {
    const Mixing mixing = draw_mixing({.seed = 1, .step = step}, kBatch, 0.5, kLevels);
    mean += mixing.lambda / kSteps;
    square += mixing.lambda * mixing.lambda / kSteps;
    ++levels[mixing.level];
  }
  // Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)) = 1/8; within five standard errors.
  CHECK(std::abs(mean - 0.5) < 5 * std::sqrt(0.125 / kSteps));
  CHECK(std::abs(square - mean * mean - 0.125) < 5 * 0.125 / std::sqrt(kSteps));
  for (int count : levels) CHECK(std::abs(count - kSteps / 3.0) < 5 * std::sqrt(kSteps * 2 / 9.0));
}

TEST_CASE("methods: mixup leaves samples that do not count by themselves") {
  std::vector<int64_t> labels = labels_of(kBatch);
  labels[2] = -100;
  const Tensor valid = ne(arange(0, 12), 5.0);
  const data::Batch batch{kBatch.inputs, from_values(labels, {12}), valid, 12};
  for (uint64_t step = 0; step < 20; ++step) {
    const Mixing mixing = draw_mixing({.seed = 7, .step = step}, batch, 1, 1);
    std::vector<int64_t> order = mixing.order;
    CHECK(order[2] == 2);
    CHECK(order[5] == 5);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < 12; ++i) CHECK(order[i] == i);
  }
  // Nothing of them reaches the loss.
  const auto model = net();
  const StepResult result = run(*model, "mixup", step_of("mixup"), {.mixup_alpha = 1}, {batch});
  CHECK(result.units == 10);
  Tensor x = batch.inputs[0].clone();
  x[2].fill_(3), x[5].fill_(-2);
  const data::Batch changed{{x}, batch.target, valid, 12};
  CHECK(run(*model, "mixup", step_of("mixup"), {.mixup_alpha = 1}, {changed}).loss == result.loss);
}

TEST_CASE("methods: a perturbation of fgm has norm epsilon, along the gradient, for each sample") {
  const Tensor g = normal({4, 3, 5}, 3, DType::f64);
  g[2].zero_();
  const Tensor r = fgm_perturbation(g, 0.7);
  const auto norms = norms_of(r);
  for (int64_t i : {0, 1, 3}) {
    CHECK(norms[i] == doctest::Approx(0.7).epsilon(1e-12));
    CHECK((r[i] * g[i]).sum().item() == doctest::Approx(0.7 * norms_of(g)[i]).epsilon(1e-12));
  }
  CHECK(norms[2] == 0);
}

TEST_CASE("methods: fgm is the loss at the embedding and at the perturbed one, by hand") {
  for (const double rate : {0.0, 0.3}) {
    const auto model = net(rate);
    const Hookable hookable = model->hookable();
    const StepOptions options = step_of("fgm");
    const MethodOptions choices{.fgm_epsilon = 0.5};
    Tensor embedding;
    const auto loss_at = [&](const Tensor& shift) {
      const PassContext context(pass_of(options));
      return cross_entropy(hookable.logits(kBatch,
                                           [&](int64_t level, const Tensor& x) {
                                             if (level > 0) return x;
                                             return embedding = shift.defined() ? x + shift : x;
                                           }),
                           kBatch.target);
    };
    const Tensor clean = loss_at({});
    const Tensor g = grad(clean, {embedding}, {}, {.retain_graph = true})[0];
    const Tensor adversarial = loss_at(fgm_perturbation(g, 0.5));
    CHECK(adversarial.item() > clean.item() + 1e-3);  // uphill
    model->zero_grad();
    clean.backward(), adversarial.backward();
    const auto expected = flat_gradients(*model);  // of the sum, the perturbation held
    const StepResult result = run(*model, "fgm", options, choices);
    CHECK(result.loss == doctest::Approx(clean.item() + adversarial.item()).epsilon(1e-12));
    CHECK(distance(flat_gradients(*model), expected) < 1e-12);
  }
}

TEST_CASE("methods: fgm reaches a trunk that does not learn") {
  const auto model = net();
  for (const Tensor& p : model->embed.parameters()) p.requires_grad_(false);
  const double plain = run(*model, "plain", step_of("fgm")).loss;
  CHECK(run(*model, "fgm", step_of("fgm")).loss > 2 * plain);
  CHECK(!model->embed.weight.grad().defined());
}

TEST_CASE("methods: multi-sample dropout is the mean over heads on one trunk, by hand") {
  const auto model = net();
  const StepOptions options = step_of("multisample");
  PassOptions one = pass_of(options);
  one.count = 1;
  double expected = 0;
  for (int head = 0; head < options.passes; ++head) {
    Tensor features;
    {
      const PassContext context(one);
      features = model->features(kBatch.inputs[0], {});
    }
    PassOptions own = one;
    own.first = head;
    const PassContext context(own);
    expected += mean_loss(model->head(features), labels_of(kBatch), 0.1) / options.passes;
  }
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    StepOptions planned = options;
    planned.plan = plan;
    CHECK(run(*model, "multisample", planned).loss == doctest::Approx(expected).epsilon(1e-12));
  }
  StepOptions single = options;
  single.passes = 1;
  const double alone = run(*model, "multisample", single).loss;
  const auto gradients = flat_gradients(*model);
  CHECK(alone == run(*model, "plain", single).loss);
  CHECK(flat_gradients(*model) == gradients);
}

TEST_CASE("methods: gradients are those of finite differences of the whole objective") {
  const auto model = net();
  for (const std::string method : {"rdrop", "mixup", "manifold-mixup", "multisample"})
    for (uint64_t step : {1, 2}) check_gradient(*model, method, step_of(method, step));
}

TEST_CASE("methods: a step repeats bit for bit, and all plans agree") {
  const auto model = net();
  for (const std::string& method : flat_methods()) {
    INFO(method);
    StepOptions options = step_of(method);
    if (method.find("mixup") != std::string::npos) options.passes = 2, options.alpha = 1;
    const StepResult first = run(*model, method, options);
    const auto gradients = flat_gradients(*model);
    CHECK(run(*model, method, options).loss == first.loss);
    CHECK(flat_gradients(*model) == gradients);
    for (const Plan plan : {Plan::sequential, Plan::replay}) {
      options.plan = plan;
      CHECK(run(*model, method, options).loss == doctest::Approx(first.loss).epsilon(1e-12));
      CHECK(distance(flat_gradients(*model), gradients) < 1e-11);
    }
    options.step += 1;
    CHECK(run(*model, method, options).loss != first.loss);
  }
}

TEST_CASE("methods: two micro-batches are one step, but for the partners that mixup finds") {
  const auto model = net();
  const std::vector<data::Batch> halves = {whole(Blobs(12, DType::f64), 0, 6),
                                           whole(Blobs(12, DType::f64), 6, 12)};
  for (const std::string method : {"plain", "rdrop", "fgm", "multisample"}) {
    INFO(method);
    const StepResult one = run(*model, method, step_of(method));
    const auto gradients = flat_gradients(*model);
    CHECK(run(*model, method, step_of(method), {}, halves).loss == doctest::Approx(one.loss).epsilon(1e-12));
    CHECK(distance(flat_gradients(*model), gradients) < 1e-11);
  }
}

TEST_CASE("methods: validation is the plain classifier's") {
  const auto model = net();
  const Blobs data(20, DType::f64);
  const double plain = evaluate(*make_method("plain", model->hookable()), data).loss;
  for (const std::string& method : flat_methods()) {
    const auto objective = make_method(method, model->hookable());
    accumulate_gradients(*objective, {kBatch}, step_of(method));
    CHECK(evaluate(*objective, data).loss == plain);
  }
}

TEST_CASE("methods: each learns, and a run that stopped goes on bit for bit") {
  const Blobs train(200, DType::f32, 1, 0.4), valid(100, DType::f32, 2, 0.4);
  for (const std::string& method : flat_methods()) {
    INFO(method);
    const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
    const auto fit = [&](int64_t epochs, const std::string& run, bool resume) {
      const InitScope init({.seed = 5});
      Net model(0.1);
      AdamW optimizer(model.parameters(), {.lr = 1e-2});
      const auto objective = make_method(method, model.hookable());
      const StepOptions step = step_of(method);
      Trainer trainer(*objective, optimizer,
                      {.passes = step.passes,
                       .alpha = step.alpha,
                       .epochs = epochs,
                       .batch_size = 20,
                       .run_dir = run,
                       .progress = false});
      const FitResult result = resume ? trainer.resume(train, valid) : trainer.fit(train, valid);
      return std::pair{result.best().accuracy, flat_parameters(model)};
    };
    const auto [accuracy, parameters] = fit(6, "", false);
    CHECK(accuracy > 0.85);  // guessing: 0.25
    fit(3, folder.path(), false);
    CHECK(fit(6, folder.path(), true).second == parameters);
  }
}

TEST_CASE("methods: what does not fit is a ConfigError that tells what was expected") {
  const auto model = net();
  const Hookable hookable = model->hookable();
  CHECK(
      message_of<ConfigError>([&] { make_method("mixdown", hookable); }) ==
      "method: expected one of plain, rdrop, mixup, manifold-mixup, fgm, multisample, cutmix, got 'mixdown'");
  for (const double bad : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    check_throws<ConfigError>("mixup_alpha: expected a number above 0, got",
                              [&] { make_method("mixup", hookable, {.mixup_alpha = bad}); });
    check_throws<ConfigError>("fgm_epsilon: expected a number above 0, got",
                              [&] { make_method("fgm", hookable, {.fgm_epsilon = bad}); });
  }
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    StepOptions two{.passes = 2, .alpha = 0, .plan = plan};
    CHECK(message_of<ConfigError>([&] { run(*model, "plain", two); }) == "plain: expected passes 1, got 2");
    CHECK(message_of<ConfigError>([&] { run(*model, "fgm", two); }) == "fgm: expected passes 1, got 2");
    two.alpha = 1;
    CHECK(message_of<ConfigError>([&] { run(*model, "multisample", two); }) ==
          "multisample: expected alpha 0, got 1: its heads are not compared");
  }
  const auto still = net(0);
  CHECK(message_of<ConfigError>([&] { run(*still, "multisample", {.passes = 2, .alpha = 0}); }) ==
        "multisample: the head has no dropout to draw 2 times");
}

TEST_CASE("methods: on a ViT, mixing embeddings is mixing pixels") {
  const InitScope init({.seed = 2, .dtype = DType::f64});
  models::Vit vit(
      {.image_size = 8, .classes = 4, .patch_size = 4, .dim = 8, .depth = 2, .heads = 2, .mlp_dim = 8});
  const Tensor images = normal({6, 1, 8, 8}, 5, DType::f64);
  const data::Batch batch{{images}, from_values(std::vector<int64_t>{0, 1, 2, 3, 0, 1}, {6}), {}, 6};
  const Mixing mixing = draw_mixing({.seed = 7}, batch, 1, 1);
  const Hookable hookable = models::hookable(vit);
  CHECK(hookable.levels == 3);
  const PassContext context({.seed = 7, .count = 2});
  std::vector<int64_t> seen;
  const Tensor embedded = hookable.logits(batch, [&](int64_t level, const Tensor& x) {
    seen.push_back(level);
    return level == 0 ? mixing(x) : x;
  });
  CHECK(seen == std::vector<int64_t>{0, 1, 2});
  const PassContext again({.seed = 7, .count = 2});
  CHECK(difference(embedded, vit.forward(mixing(images))) < 1e-12);
  CHECK(difference(embedded, vit.forward(images)) > 1e-3);
}

TEST_CASE("methods: each trains the bundled encoders") {
  const InitScope init({.seed = 2});
  models::Vit vit({.image_size = 8,
                   .classes = 4,
                   .patch_size = 4,
                   .dim = 8,
                   .depth = 2,
                   .heads = 2,
                   .mlp_dim = 8,
                   .head_dropout = 0.2});
  models::TextEncoder text(
      {.vocab = 12, .outputs = 4, .dim = 8, .heads = 2, .mlp_dim = 8, .max_positions = 6});
  const Tensor labels = from_values(std::vector<int64_t>{0, 1, 2, 3}, {4});
  const data::Batch images{{normal({4, 1, 8, 8}, 5)}, labels, {}, 4};
  const data::Batch texts{
      {from_values(std::vector<int64_t>{2, 5, 6, 3, 2, 7, 3, 0, 2, 8, 9, 3, 2, 10, 11, 3}, {4, 4}),
       zeros({4, 4}, {DType::i64})},
      labels,
      {},
      4};
  for (const std::string& method : flat_methods()) {
    INFO(method);
    for (const auto& [model, batch] :
         {std::pair{models::hookable(vit), images}, std::pair{models::hookable(text), texts}}) {
      model.module.zero_grad();
      StepOptions options = step_of(method);
      options.alpha = method == "rdrop" ? 1 : 0;
      const StepResult result = accumulate_gradients(*make_method(method, model), {batch}, options);
      CHECK(result.loss > 0.5);
      CHECK(grad_norm(model.module.parameters()) > 0);
    }
  }
}
