// Weights of classes and several labels of a sample: the same step under every plan, however it is cut.
#include <doctest/doctest.h>

#include "models/transformer/token_classification.h"
#include "nn/optim/sgd.h"
#include "nn/train/evaluate.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const Tensor kWeights = tensor({0.5, 3, 0, 1.5}, {4});

struct Weighted final : nn::Objective {
  explicit Weighted(Mlp& model) : made(model, kWeights) {}
  nn::Module& module() override { return made.module(); }
  Tensor forward(const data::Batch& batch) override { return made.forward(batch); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return made.loss(logits, batch, options, passes);
  }
  double weight_of(const data::Batch& batch, int64_t units) const override {
    return made.weight_of(batch, units);
  }
  nn::Classification<Mlp> made;
};

// Labels of the batch's samples as sets: those up to a sample's.
data::Batch sets_of(data::Batch batch) {
  const Tensor labels = batch.target.unsqueeze(1);
  batch.target = le(arange(0, 4, 1, {DType::i64}).unsqueeze(0), labels).to(batch.inputs[0].dtype());
  return batch;
}

template <class Objective> void check_steps(const data::Batch& all, const std::vector<data::Batch>& parts) {
  const nn::StepOptions options{.passes = 3, .alpha = 2, .label_smoothing = 0.1};
  check_plans([&](const nn::StepOptions& o) { return outcome_of<Mlp, Objective>(DType::f64, {all}, o); },
              options, 1e-9);
  check_same(outcome_of<Mlp, Objective>(DType::f64, parts, options),
             outcome_of<Mlp, Objective>(DType::f64, {all}, options), 1e-9);
}

}  // namespace

TEST_CASE("class weights: a step is the same under every plan and in micro-batches of other weights") {
  const Blobs blobs(20, DType::f64);
  check_steps<Weighted>(whole(blobs, 0, 17), {whole(blobs, 0, 3), whole(blobs, 3, 16), whole(blobs, 16, 17)});
}

TEST_CASE("class weights: the gradient of a step is torch's, and validation weighs nothing") {
  const Blobs blobs(12, DType::f64);
  const data::Batch batch = whole(blobs, 0, 12);
  const nn::InitScope init({.seed = 7, .dtype = DType::f64});
  Mlp model;
  Weighted objective(model);
  const nn::StepOptions options{.passes = 1, .alpha = 0, .rates = {0.0}};
  const Outcome step = step_of(model, objective, {batch}, options);
  model.eval(), model.zero_grad();
  const Tensor losses = cross_entropy(model.forward(batch.inputs[0]), batch.target,
                                      {.reduction = Reduction::none}),
               weights = index_select(kWeights.to(DType::f64), 0, batch.target);
  const Tensor loss = sum(losses * weights) / sum(weights);
  loss.backward();
  CHECK(step.result.ce == doctest::Approx(loss.item()).epsilon(1e-12));
  CHECK(distance(step.gradients, flat_gradients(model)) < 1e-12);
  nn::Classification<Mlp> plain(model);
  CHECK(nn::evaluate(objective, blobs).ce == nn::evaluate(plain, blobs).ce);
  check_throws<ConfigError>("class_weights: that of class 1 is -1", [] {
    nn::ClassWeights(tensor({1, -1}, {2}));
  });
  check_throws<ConfigError>("class_weights: expected one above 0", [] { nn::ClassWeights(zeros({2})); });
}

TEST_CASE("several labels: a step is the same under every plan and in micro-batches") {
  const Blobs blobs(20, DType::f64);
  const data::Batch all = sets_of(whole(blobs, 0, 17));
  check_steps<nn::MultiLabel<Mlp>>(all, {sets_of(whole(blobs, 0, 3)), sets_of(whole(blobs, 3, 17))});
}

TEST_CASE("several labels: KL is exact near equality and far out, in f32") {
  for (const float at : {-40.0F, -3.0F, 0.0F, 9.0F, 60.0F}) {
    for (const float apart : {1e-6F, 1e-3F, 1.0F, 50.0F}) {
      INFO("logits ", at, " and ", at + apart);
      const Tensor one = full({1, 1}, at), two = full({1, 1}, at + apart);
      const auto kl = [](const Tensor& a, const Tensor& b) {
        return rdrop_binary_cross_entropy(stack_passes({a, b}), zeros(a.shape(), {a.dtype()})).kl;
      };
      const double exact = kl(one.to(DType::f64), two.to(DType::f64));
      const double x = one.item(), d = two.item() - x;  // (p - q) d / 2, with p - q = p (1 - q) (1 - e^-d)
      const double p = 1 / (1 + std::exp(-x - d)), other = 1 / (1 + std::exp(x));
      CHECK(exact == doctest::Approx(p * other * -std::expm1(-d) * d / 2).epsilon(1e-12));
      CHECK(kl(one, two) == doctest::Approx(exact).epsilon(2e-6));
    }
  }
}

TEST_CASE("token classification: words count, other pieces do not, under every plan") {
  const models::TextEncoderConfig config{.vocab = 12,
                                         .outputs = 4,
                                         .dim = 16,
                                         .heads = 2,
                                         .mlp_dim = 32,
                                         .max_positions = 8,
                                         .pooler = models::Pooler::none};
  const Tensor ids = from_values(std::vector<int64_t>{2, 5, 7, 3, 2, 9, 3, 0}, {2, 4}),
               target = from_values(std::vector<int64_t>{-100, 1, -100, -100, -100, 3, -100, -100}, {2, 4});
  const data::Batch batch{{ids, zeros_like(ids)}, target, {}, 2};
  for (const bool weighted : {false, true}) {
    const auto run = [&](const nn::StepOptions& options) {
      const nn::InitScope init({.seed = 7, .dtype = DType::f64});
      models::TextEncoder model(config);
      models::TokenClassification objective(model, weighted ? kWeights : Tensor());
      return step_of(model, objective, {batch}, options);
    };
    CHECK(run({.passes = 2}).result.units == 2);
    check_plans(run, {.passes = 2, .alpha = 1}, 1e-9);
  }
}
