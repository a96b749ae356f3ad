// SimCSE: the loss against its formula, its gradient, its two views, and that it learns to tell texts apart.
#include "nn/methods/contrastive.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "models/transformer/text_encoder.h"
#include "nn/metrics/scores.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::nn;
using namespace tandem::testing;

namespace {

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb);
}

// The formula of contrastive_loss, row by row.
double by_hand(const Tensor& anchors, const Tensor& candidates, double temperature) {
  double sum = 0;
  for (int64_t i = 0; i < anchors.size(0); ++i) {
    const auto a = anchors[i].to_vector<double>();
    double all = 0;
    for (int64_t j = 0; j < candidates.size(0); ++j)
      all += std::exp(cosine(a, candidates[j].to_vector<double>()) / temperature);
    sum += std::log(all) - cosine(a, candidates[i].to_vector<double>()) / temperature;
  }
  return sum / anchors.size(0);
}

// Sentences of eight words each from one of four topics; a topic has six words of its own.
struct Sentences final : data::Dataset {
  Sentences(int64_t count, int64_t texts, uint64_t seed) : count(count), texts(texts), seed(seed) {}
  int64_t size() const override { return count; }
  data::Batch batch(std::span<const int64_t> indices, const data::BatchContext&) const override {
    const auto n = static_cast<int64_t>(indices.size());
    data::Batch batch{{}, {}, {}, n};
    std::vector<double> scores;
    for (int64_t text = 0; text < texts; ++text) {
      std::vector<int64_t> ids;
      for (int64_t i : indices) {
        ids.push_back(2);
        for (int64_t w = 0; w < 8; ++w)
          ids.push_back(5 + 6 * topic(i, text) + bounded({seed}, i * texts + text, w, 6));
      }
      batch.inputs.push_back(from_values(ids, {n, 9}));
    }
    for (int64_t i : indices) scores.push_back(topic(i, 0) == topic(i, 1));
    batch.target = from_values(scores, {n});
    return batch;
  }
  // Of two texts: the same topic for every other sample. Of three: the same, and another.
  int64_t topic(int64_t i, int64_t text) const {
    if (texts == 3) return (i + (text == 2)) % 4;
    return (i + (text == 1 && i % 2 == 1) * (1 + i / 4 % 3)) % 4;
  }
  int64_t count, texts;
  uint64_t seed;
};

const models::TextEncoderConfig kTiny{
    .vocab = 30, .dim = 16, .heads = 2, .mlp_dim = 32, .layers = 1, .max_positions = 9, .dropout = 0.1};

Embed embed_by(models::TextEncoder& model) {
  return [&model](const Tensor& ids) { return model.pooled(ids); };
}

}  // namespace

TEST_CASE("contrastive_loss: its formula, with and without hard negatives") {
  const Tensor a = normal({5, 7}, 1, DType::f64), c = normal({10, 7}, 2, DType::f64);
  for (const double temperature : {0.05, 1.0}) {
    for (const int64_t candidates : {5, 10}) {
      const LossParts parts = contrastive_loss(a, c.slice(0, 0, candidates), {temperature});
      const double expected = by_hand(a, c.slice(0, 0, candidates), temperature);
      CHECK(parts.loss.item() == doctest::Approx(expected).epsilon(1e-12));
      CHECK(parts.ce == doctest::Approx(expected).epsilon(1e-12));
      CHECK(contrastive_loss(a, c.slice(0, 0, candidates), {temperature}, 20).ce ==
            doctest::Approx(expected / 4).epsilon(1e-12));
    }
  }
  // The length of an embedding is nothing.
  CHECK(contrastive_loss(a * 3, c * 0.1).ce == doctest::Approx(contrastive_loss(a, c).ce).epsilon(1e-12));
  CHECK(contrastive_loss(a, a).correct == 5);
}

TEST_CASE("contrastive_loss: gradients by finite differences") {
  const Tensor a = normal({4, 3}, 1, DType::f64).requires_grad_(),
               c = normal({6, 3}, 2, DType::f64).requires_grad_();
  const auto result =
      gradcheck([](const Tensors& x) { return contrastive_loss(x[0], x[1], {0.3}).loss; }, {a, c});
  CHECK_MESSAGE(result.passed, result.message);
}

TEST_CASE("SimCSE: two views of each text are the two passes, under every plan") {
  const InitScope init({.seed = 4, .dtype = DType::f64});
  models::TextEncoder model(kTiny);
  UnsupervisedSimCse objective(model, embed_by(model));
  const data::Batch batch = whole(Sentences(6, 1, 3), 0, 6);
  Tensors views;
  for (int pass : {0, 1}) {
    const PassContext context({.seed = 5, .step = 2, .first = pass, .batch = 6});
    views.push_back(model.pooled(batch.inputs[0]));
  }
  std::vector<double> reference;
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    model.zero_grad();
    const StepResult result =
        accumulate_gradients(objective, {batch}, {.passes = 2, .plan = plan, .seed = 5, .step = 2});
    CHECK(result.loss == doctest::Approx(by_hand(views[0], views[1], 0.05)).epsilon(1e-11));
    CHECK(result.units == 6);
    CHECK(result.accuracy <= 1);
    if (reference.empty()) reference = flat_gradients(model);
    CHECK(distance(flat_gradients(model), reference) < 1e-10);
  }
}

TEST_CASE("SimCSE: the supervised loss is of anchors against what follows and what contradicts") {
  const InitScope init({.seed = 4, .dtype = DType::f64});
  models::TextEncoder model(kTiny);
  SupervisedSimCse objective(model, embed_by(model), {0.1});
  for (const int64_t texts : {2, 3}) {
    const data::Batch batch = whole(Sentences(6, texts, 3), 0, 6);
    Tensors embeddings;
    {
      const PassContext context({.seed = 5, .batch = 6});
      for (const Tensor& ids : batch.inputs) embeddings.push_back(model.pooled(ids));
    }
    const Tensor anchors = embeddings[0];
    embeddings.erase(embeddings.begin());
    CHECK(accumulate_gradients(objective, {batch}, {.passes = 1, .seed = 5}).loss ==
          doctest::Approx(by_hand(anchors, cat(embeddings), 0.1)).epsilon(1e-11));
  }
}

TEST_CASE("SimCSE: both learn which texts are alike") {
  const Sentences pairs(96, 2, 9);
  for (const bool supervised : {false, true}) {
    INFO("supervised ", supervised);
    const InitScope init({.seed = 4});
    models::TextEncoder model(kTiny);
    const Embed embed = embed_by(model);
    const auto judged = [&] {
      model.eval();
      return similarity_spearman(embed, pairs);
    };
    const double before = judged();
    const Sentences train(256, supervised ? 3 : 1, 1);
    std::unique_ptr<Objective> objective;
    if (supervised) {
      objective = std::make_unique<SupervisedSimCse>(model, embed);
    } else {
      objective = std::make_unique<UnsupervisedSimCse>(model, embed);
    }
    AdamW optimizer(model.parameters(), {.lr = 5e-4});
    Trainer trainer(
        *objective, optimizer,
        {.passes = supervised ? 1 : 2, .alpha = 0, .epochs = 5, .batch_size = 16, .progress = false});
    const FitResult result = trainer.fit(train, train);
    CHECK(result.train.back().loss < result.train.front().loss);
    CHECK(judged() > before + 0.03);
  }
}

TEST_CASE("similarity_spearman is Spearman's correlation of the cosines") {
  const InitScope init({.seed = 4});
  models::TextEncoder model(kTiny);
  model.eval();
  const Sentences pairs(20, 2, 9);
  std::vector<double> cosines, scores;
  for (int64_t i = 0; i < 20; ++i) {
    const data::Batch one = whole(pairs, i, i + 1);
    cosines.push_back(cosine(model.pooled(one.inputs[0])[0].to_vector<double>(),
                             model.pooled(one.inputs[1])[0].to_vector<double>()));
    scores.push_back(one.target.item());
  }
  CHECK(similarity_spearman(embed_by(model), pairs, 7) ==
        doctest::Approx(metrics::spearman(cosines, scores)).epsilon(1e-12));
}

TEST_CASE("SimCSE: an embedding that is not finite is what on_nan is about, one of length 0 is not") {
  const Tensor x = normal({3, 4}, 1), zero = zeros({3, 4});
  const Tensor bad = x.clone();
  bad.select(0, 1).fill_(NAN);
  CHECK_THROWS_AS(contrastive_loss(bad, x), NonFiniteError);
  CHECK_THROWS_WITH_AS(contrastive_loss(zero, x),
                       "contrastive_loss: embedding 0 has the norm 0, expected a finite one above 0",
                       ValueError);
}

TEST_CASE("SimCSE: what does not fit is a typed error") {
  models::TextEncoder model(kTiny), still([] {
    auto config = kTiny;
    config.dropout = 0;
    return config;
  }());
  UnsupervisedSimCse unsupervised(model, embed_by(model)), same(still, embed_by(still));
  SupervisedSimCse supervised(model, embed_by(model));
  const data::Batch one = whole(Sentences(4, 1, 3), 0, 4), two = whole(Sentences(4, 2, 3), 0, 4);
  const auto step = [](Objective& objective, const data::Batch& batch, int passes) {
    return message_of<ConfigError>([&] { accumulate_gradients(objective, {batch}, {.passes = passes}); });
  };
  CHECK(step(unsupervised, one, 1) == "SimCSE: expected passes 2, its two views, got 1");
  CHECK(step(unsupervised, one, 3) == "SimCSE: expected passes 2, its two views, got 3");
  CHECK(step(same, one, 2) == "SimCSE: the two views are the same: the model has no dropout");
  CHECK(step(supervised, two, 2) == "supervised SimCSE: expected passes 1, got 2");
  CHECK(message_of<ShapeError>([&] { accumulate_gradients(supervised, {one}, {.passes = 1}); }) ==
        "SimCSE: expected batches of 2 or 3 texts a sample, got 1");
  for (const double bad : {0.0, -1.0, std::nan(""), HUGE_VAL})
    CHECK_THROWS_AS(UnsupervisedSimCse(model, embed_by(model), {bad}), ConfigError);
  const Tensor x = normal({3, 4}, 1);
  CHECK_THROWS_AS(contrastive_loss(x, normal({2, 4}, 1)), ShapeError);
  CHECK_THROWS_AS(contrastive_loss(x, normal({3, 5}, 1)), ShapeError);
  CHECK(message_of<ValueError>([&] {
          contrastive_loss(x, zeros({3, 4}));
        }) == "contrastive_loss: embedding 0 has the norm 0, expected a finite one above 0");
}
