// Mistakes that implementations of R-Drop are known for, where the trainer could make them: each with a case
// in which it would show.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/optim/sgd.h"
#include "tests/nn/train/toy.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr nn::Plan kPlans[] = {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay};

// The same in f64.
struct Mlp64 : nn::Module {
  nn::InitScope scope{{.seed = 8, .dtype = DType::f64}};
  nn::Linear hidden{*this, "hidden", 6, 24}, out{*this, "out", 24, 4};
  nn::Dropout drop1{*this, "drop1", 0.2}, drop2{*this, "drop2", 0.4};
  Tensor forward(const Tensor& x) { return out(drop2(tanh(hidden(drop1(x))))); }
};

// Notes what each of its forwards saw.
struct Recorder : nn::Module {
  struct Call {
    bool training, tape;
    int first_pass, passes;  // -1: outside of every context
    std::vector<double> x, mask;
  };
  nn::InitScope scope{{.seed = 8, .dtype = DType::f64}};
  nn::Linear hidden{*this, "hidden", 6, 24}, out{*this, "out", 24, 4};
  nn::Dropout drop{*this, "drop", 0.5};
  std::vector<Call> calls;
  Tensor forward(const Tensor& x) {
    const Tensor h = tanh(hidden(x)), mask = drop(ones_like(h.detach()));
    const PassContext* context = PassContext::current();
    calls.push_back({is_training(), grad_enabled(), context ? context->options().first : -1, mask.passes(),
                     x.to_vector<double>(), mask.to_vector<double>()});
    return out(h * mask);
  }
};

// The loss's terms from the logits of each pass, by their definition and with plain loops.
struct Terms {
  double ce = 0, kl = 0;
};
std::vector<Terms> terms_by_hand(const std::vector<std::vector<double>>& logits,
                                 const std::vector<int64_t>& labels, int64_t classes) {
  const size_t m = logits.size(), n = labels.size();
  std::vector<Terms> result(n);
  for (size_t s = 0; s < n; ++s) {
    std::vector<std::vector<double>> log_p(m);
    for (size_t i = 0; i < m; ++i) {
      const double* z = logits[i].data() + s * classes;
      double sum = 0;
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(z[c]);
      for (int64_t c = 0; c < classes; ++c) log_p[i].push_back(z[c] - std::log(sum));
      result[s].ce -= log_p[i][labels[s]] / static_cast<double>(m);
    }
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < m; ++j)
        for (int64_t c = 0; c < classes && i != j; ++c)
          result[s].kl +=
              std::exp(log_p[i][c]) * (log_p[i][c] - log_p[j][c]) / static_cast<double>(m * (m - 1));
  }
  return result;
}

// Logits of pass i alone.
std::vector<double> single_pass(Mlp64& model, const Tensor& x, int pass, const nn::StepOptions& options) {
  const NoGradGuard no_grad;
  const PassContext context(
      {.seed = options.seed, .step = options.step, .first = pass, .rates = options.rates});
  return model.forward(x).to_vector<double>();
}

// Samples of which each has a label of its own, in no order that a repetition could keep by chance.
data::Batch unlike_samples() {
  data::Batch batch = whole(Blobs(5, DType::f64), 0, 5);
  batch.target = from_values(std::vector<int64_t>{2, 0, 3, 3, 1}, {5});
  return batch;
}

// Hands out the same tensors every time.
class Cached final : public data::Dataset {
 public:
  explicit Cached(data::Batch batch) : batch_(std::move(batch)) {}
  int64_t size() const override { return batch_.size; }
  data::Batch batch(std::span<const int64_t>, const data::BatchContext&) const override { return batch_; }

 private:
  data::Batch batch_;
};

}  // namespace

TEST_CASE("mistake: labels not repeated, stacked and interleaved order confused, one pass's CE missing") {
  // Every sample's loss under every plan is that of m runs of one pass with the same noise.
  const data::Batch batch = unlike_samples();
  const auto labels = batch.target.to_vector<int64_t>();
  for (const auto& rates : {std::vector<double>{0.3, 0.5}, {0.1, 0, 0.6}, {0.2, 0.2, 0.2, 0.2, 0.2}}) {
    nn::StepOptions options{
        .passes = static_cast<int>(rates.size()), .alpha = 3, .rates = rates, .seed = 4, .step = 6};
    Mlp64 model;
    nn::Classification<Mlp64> objective(model);
    std::vector<std::vector<double>> logits;
    for (int i = 0; i < options.passes; ++i)
      logits.push_back(single_pass(model, batch.inputs[0], i, options));
    const auto expected = terms_by_hand(logits, labels, 4);
    for (const nn::Plan plan : kPlans) {
      INFO("plan ", std::string(name_of(plan)), ", m = ", options.passes);
      options.plan = plan;
      Terms mean;
      for (int64_t s = 0; s < 5; ++s) {
        data::Batch one = batch;  // the other samples do not count
        std::vector<uint8_t> valid(5, 0);
        valid[s] = 1;
        one.valid = from_values(valid, {5}).to(DType::boolean);
        const nn::StepResult got = nn::accumulate_gradients(objective, {one}, options);
        CHECK(got.units == 1);
        CHECK(got.ce == doctest::Approx(expected[s].ce).epsilon(1e-12));
        CHECK(got.kl == doctest::Approx(expected[s].kl).epsilon(1e-11));
        mean.ce += expected[s].ce / 5, mean.kl += expected[s].kl / 5;
      }
      const nn::StepResult got = nn::accumulate_gradients(objective, {batch}, options);
      CHECK(got.ce == doctest::Approx(mean.ce).epsilon(1e-12));
      CHECK(got.kl == doctest::Approx(mean.kl).epsilon(1e-11));
      CHECK(got.loss == doctest::Approx(mean.ce + 1.5 * mean.kl).epsilon(1e-12));
    }
  }
}

TEST_CASE("mistake: the same random state in both passes, or the same masks in every step") {
  const data::Batch batch = unlike_samples();
  for (const nn::Plan plan : kPlans) {
    INFO("plan ", std::string(name_of(plan)));
    Recorder model;
    nn::SGD optimizer(model.parameters(), {.lr = 0.1});
    nn::Trainer trainer(model, optimizer, {.passes = 2, .plan = plan, .progress = false});
    std::vector<std::vector<double>> masks;  // of each pass of each step, of each sample
    for (int step = 0; step < 3; ++step) {
      model.calls.clear();
      CHECK(trainer.step({batch}).kl > 1e-3);
      std::vector<double> passes;
      for (const auto& call : model.calls)
        if (passes.size() < 2 * 5 * 24) passes.insert(passes.end(), call.mask.begin(), call.mask.end());
      REQUIRE(passes.size() == 2 * 5 * 24);
      for (size_t at = 0; at < passes.size(); at += 24)
        masks.emplace_back(passes.begin() + at, passes.begin() + at + 24);
    }
    for (size_t i = 0; i < masks.size(); ++i)
      for (size_t j = 0; j < i; ++j) CHECK(masks[i] != masks[j]);
  }
}

TEST_CASE("mistake: micro-batches that draw the same masks") {
  const data::Batch batch = unlike_samples();
  Recorder model;
  nn::Classification<Recorder> objective(model);
  nn::accumulate_gradients(objective, {batch, batch}, {.passes = 2});
  REQUIRE(model.calls.size() == 2);
  CHECK(model.calls[0].mask != model.calls[1].mask);
}

TEST_CASE("mistake: training in evaluation mode, where the KL is 0") {
  Recorder model;
  nn::SGD optimizer(model.parameters(), {.lr = 0.1});
  nn::Trainer trainer(model, optimizer, {.progress = false});
  model.eval();
  CHECK(trainer.step({unlike_samples()}).kl > 1e-3);
  CHECK(model.is_training());
}

TEST_CASE("mistake: passes also run in validation") {
  const Blobs train(20, DType::f64), valid(10, DType::f64, 2);
  for (const nn::Plan plan : kPlans) {
    INFO("plan ", std::string(name_of(plan)));
    Recorder model;
    nn::SGD optimizer(model.parameters(), {.lr = 0.1});
    nn::Trainer trainer(model, optimizer,
                        {.passes = 4,
                         .alpha = 5,
                         .plan = plan,
                         .epochs = 2,
                         .batch_size = 20,
                         .eval_batch_size = 4,
                         .progress = false});
    const nn::FitResult result = trainer.fit(train, valid);
    int evaluations = 0;
    std::vector<double> seen;
    for (const auto& call : model.calls) {
      if (call.training) continue;
      ++evaluations;
      CHECK(!call.tape);
      CHECK(call.passes == 1);
      CHECK(call.mask == std::vector<double>(call.mask.size(), 1));
      if (evaluations <= 3) seen.insert(seen.end(), call.x.begin(), call.x.end());
    }
    CHECK(evaluations == 2 * 3);  // 4 + 4 + 2 samples, once in each epoch
    CHECK(seen == whole(valid, 0, 10).inputs[0].to_vector<double>());
    for (const nn::Metrics& m : result.valid) {
      CHECK(m.kl == 0);
      CHECK(m.loss == m.ce);
    }
  }
}

TEST_CASE("mistake: recomputation draws another mask") {
  const data::Batch batch = unlike_samples();
  nn::StepOptions options{.passes = 3, .alpha = 2, .seed = 1, .step = 9};
  Recorder replayed, reference;
  nn::Classification<Recorder> a(replayed), b(reference);
  options.plan = nn::Plan::replay;
  nn::accumulate_gradients(a, {batch}, options);
  options.plan = nn::Plan::sequential;
  nn::accumulate_gradients(b, {batch}, options);
  REQUIRE(reference.calls.size() == 3);
  REQUIRE(replayed.calls.size() == 5);  // the last pass is kept, the others run again
  int again = 0;
  for (size_t i = 0; i < 5; ++i) {
    const auto& call = replayed.calls[i];
    REQUIRE(call.first_pass >= 0);
    CHECK(call.mask == reference.calls[call.first_pass].mask);
    CHECK(call.tape == (i >= 2));
    again += i >= 3 && call.first_pass < 2;
  }
  CHECK(again == 2);
  CHECK(distance(flat_gradients(replayed), flat_gradients(reference)) < 1e-12);
}

TEST_CASE("mistake: the backward of dropout draws another mask than its forward") {
  // One sample whose features reach the loss one by one: a dropped one has no gradient, every other has.
  struct Net : nn::Module {
    nn::Linear out{*this, "out", 64, 3};
    nn::Dropout drop{*this, "drop", 0.5};
    Tensor features = register_parameter("features", {1, 64}, nn::init::normal());
    Tensor seen;
    Tensor forward(const Tensor&) { return out(seen = drop(features)); }
  };
  for (uint64_t step = 0; step < 3; ++step) {
    Net model;
    nn::Classification<Net> objective(model);
    const data::Batch batch{{zeros({1, 1})}, from_values(std::vector<int64_t>{1}, {1}), {}, 1};
    nn::accumulate_gradients(objective, {batch}, {.passes = 1, .step = step});
    const auto kept = model.seen.to_vector<double>(), gradient = model.features.grad().to_vector<double>();
    int dropped = 0;
    for (size_t i = 0; i < 64; ++i) {
      CHECK((kept[i] == 0) == (gradient[i] == 0));
      dropped += kept[i] == 0;
    }
    CHECK(dropped > 10);
    CHECK(dropped < 54);
  }
}

TEST_CASE("mistake: the caller's batch edited in place") {
  data::Batch batch = unlike_samples();
  batch.valid = from_values(std::vector<uint8_t>{1, 1, 0, 1, 1}, {5}).to(DType::boolean);
  const auto x = batch.inputs[0].to_vector<double>();
  const auto y = batch.target.to_vector<int64_t>();
  const auto valid = batch.valid.to_vector<uint8_t>();
  const Tensor parts[] = {batch.inputs[0], batch.target, batch.valid};
  const int64_t versions[] = {parts[0].version(), parts[1].version(), parts[2].version()};
  const Cached dataset(batch);
  for (const nn::Plan plan : kPlans) {
    Mlp64 model;
    nn::SGD optimizer(model.parameters(), {.lr = 0.1});
    nn::Trainer trainer(
        model, optimizer,
        {.passes = 3, .plan = plan, .label_smoothing = 0.1, .epochs = 2, .batch_size = 5, .progress = false});
    trainer.fit(dataset, dataset);
    CHECK(batch.inputs[0].to_vector<double>() == x);
    CHECK(batch.target.to_vector<int64_t>() == y);
    CHECK(batch.valid.to_vector<uint8_t>() == valid);
    CHECK(batch.inputs[0].shape() == Shape{5, 6});
    CHECK(!batch.inputs[0].requires_grad());
    for (int i = 0; i < 3; ++i) CHECK(parts[i].version() == versions[i]);
  }
}

TEST_CASE("mistake: the logged loss is N or 2N times the loss") {
  // Without noise all passes agree, and with a learning rate of 0 nothing moves: what is logged for an epoch
  // is the evaluation's loss, whatever the number of passes and the size of the last batch.
  const Blobs train(10, DType::f64);
  for (const int passes : {1, 2, 5}) {
    Mlp64 model;
    nn::Classification<Mlp64> objective(model);
    const nn::Metrics expected = nn::evaluate(objective, train);
    nn::SGD optimizer(model.parameters(), {.lr = 0});
    nn::Trainer trainer(model, optimizer,
                        {.passes = passes,
                         .alpha = 5,
                         .rates = std::vector<double>(passes, 0),
                         .epochs = 2,
                         .batch_size = 4,
                         .accumulate = 2,
                         .progress = false});
    std::vector<double> losses;
    trainer.on_step = [&](const nn::Metrics& m) { losses.push_back(m.loss); };
    const nn::FitResult result = trainer.fit(train, train);
    for (const nn::Metrics& m : result.train) {
      CHECK(m.loss == doctest::Approx(expected.ce).epsilon(1e-12));
      CHECK(m.ce == doctest::Approx(expected.ce).epsilon(1e-12));
      CHECK(m.kl == 0);
      CHECK(m.accuracy == doctest::Approx(expected.accuracy).epsilon(1e-12));
    }
    CHECK(result.valid[1].loss == doctest::Approx(expected.loss).epsilon(1e-12));
    REQUIRE(losses.size() == 6);
    CHECK((4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10 ==
          doctest::Approx(expected.ce).epsilon(1e-12));
  }
}

TEST_CASE("mistake: accumulation changes alpha") {
  const Blobs train(44, DType::f64), valid(8, DType::f64, 2);
  const auto run = [&](int64_t accumulate, double alpha) {
    Mlp64 model;
    nn::SGD optimizer(model.parameters(), {.lr = 0.2});
    nn::Trainer trainer(model, optimizer,
                        {.passes = 3,
                         .alpha = alpha,
                         .epochs = 2,
                         .batch_size = 16,
                         .accumulate = accumulate,
                         .seed = 6,
                         .progress = false});
    std::vector<double> seen;
    trainer.on_step = [&](const nn::Metrics& m) {
      seen.insert(seen.end(), {m.loss, m.ce, m.kl});
      CHECK(m.loss == doctest::Approx(m.ce + m.alpha / 2 * m.kl).epsilon(1e-12));
    };
    trainer.fit(train, valid);
    const auto weights = flat_parameters(model);
    seen.insert(seen.end(), weights.begin(), weights.end());
    return seen;
  };
  const auto whole_batches = run(1, 5);
  CHECK(distance(run(4, 5), whole_batches) < 1e-12);
  CHECK(distance(run(16, 5), whole_batches) < 1e-12);
  CHECK(distance(run(1, 5.1), whole_batches) > 1e-6);  // alpha counts at all
}

TEST_CASE("mistake: batch norm's running statistics move with every pass and micro-batch") {
  struct Net : nn::Module {
    nn::InitScope scope{{.seed = 8, .dtype = DType::f64}};
    nn::BatchNorm2d norm{*this, "norm", 1};
    nn::Dropout drop{*this, "drop", 0.4};
    nn::Linear out{*this, "out", 6, 4};
    Tensor forward(const Tensor& x) { return out(drop(norm(x.reshape({x.size(0), 1, 2, 3})).flatten(1))); }
  };
  const Blobs blobs(8, DType::f64);
  const auto statistics = [&](int64_t begin, int64_t end) {  // mean and unbiased variance
    const auto x = whole(blobs, begin, end).inputs[0].to_vector<double>();
    double mean = 0, square = 0;
    for (double v : x) mean += v / static_cast<double>(x.size());
    for (double v : x) square += (v - mean) * (v - mean) / static_cast<double>(x.size() - 1);
    return std::pair(mean, square);
  };
  const auto [mean1, var1] = statistics(0, 4);
  const auto [mean2, var2] = statistics(4, 8);
  for (const nn::Plan plan : kPlans) {
    INFO("plan ", std::string(name_of(plan)));
    Net model;
    nn::SGD optimizer(model.parameters(), {.lr = 0.1});
    nn::Trainer trainer(model, optimizer, {.passes = 3, .plan = plan, .progress = false});
    double mean = 0, var = 1;
    for (int step = 0; step < 2; ++step) {  // one update in each, with momentum 0.1
      trainer.step({whole(blobs, 0, 4), whole(blobs, 4, 8)});
      mean = 0.9 * mean + 0.1 * (mean1 + mean2) / 2;
      var = 0.9 * var + 0.1 * (var1 + var2) / 2;
      CHECK(model.norm.running_mean.item() == doctest::Approx(mean).epsilon(1e-12));
      CHECK(model.norm.running_var.item() == doctest::Approx(var).epsilon(1e-12));
    }
  }
}

TEST_CASE("a head in the loss over a frozen trunk learns the same under every plan") {
  struct Net : nn::Module {
    nn::InitScope scope{{.seed = 8, .dtype = DType::f64}};
    nn::Linear trunk{*this, "trunk", 6, 12}, head{*this, "head", 12, 4};
    nn::Dropout drop{*this, "drop", 0.4};
  };
  struct HeadInLoss final : nn::Objective {
    explicit HeadInLoss(Net& net) : net(net) {}
    nn::Module& module() override { return net; }
    Tensor forward(const data::Batch& batch) override { return net.drop(tanh(net.trunk(batch.inputs[0]))); }
    LossParts loss(const Tensor& hidden, const data::Batch& batch, const RDropOptions& options,
                   int passes) override {
      return linear_rdrop_cross_entropy(hidden, net.head.weight, net.head.bias, batch.target, options,
                                        batch.valid, passes);
    }
    Net& net;
  };
  std::vector<std::vector<double>> gradients;
  for (const nn::Plan plan : kPlans) {
    Net net;
    for (const Tensor& p : net.trunk.parameters()) p.requires_grad_(false);
    HeadInLoss objective(net);
    CHECK(nn::accumulate_gradients(objective, {unlike_samples()}, {.passes = 3, .plan = plan}).kl > 1e-4);
    CHECK(!net.trunk.weight.grad().defined());
    gradients.push_back(flat_gradients(net));
  }
  CHECK(distance(gradients[1], gradients[0]) < 1e-12);
  CHECK(distance(gradients[2], gradients[0]) < 1e-12);
}
