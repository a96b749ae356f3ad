// Hidden words: which are chosen, what becomes of them, and learning from them under every plan.
#include "models/transformer/masked_language_modeling.h"

#include <doctest/doctest.h>

#include <map>

#include "nn/data/masked_texts.h"
#include "nn/optim/adam.h"
#include "tests/nn/train/toy.h"

using namespace tandem;
using namespace tandem::testing;
using data::Ids;
using data::MaskedTexts;
using data::SpecialIds;
using data::TextDataset;

namespace {

// Texts of `length` words that count up from a random one, of the ids 5 to 14.
TextDataset counting(int64_t count, int64_t length) {
  std::vector<Ids> texts;
  for (int64_t i = 0; i < count; ++i) {
    texts.emplace_back();
    for (int64_t t = 0; t < length; ++t) texts.back().push_back(5 + (i * 3 + t) % 10);
  }
  return TextDataset(texts, {}, std::vector<int64_t>(count), 64);
}

const models::TextEncoderConfig kConfig{
    .vocab = 15, .dim = 16, .heads = 2, .mlp_dim = 32, .layers = 1, .max_positions = 64, .dropout = 0.1};

}  // namespace

TEST_CASE("masked texts: BERT's shares, at least one word of each text, special ids never") {
  const TextDataset texts = counting(400, 30);
  const MaskedTexts masked(texts, 15);
  data::Indices all(400);
  for (int64_t i = 0; i < 400; ++i) all[i] = i;
  const data::BatchContext context{.training = true, .seed = 3, .step = 2};
  const data::Batch plain = texts.batch(all, {}), batch = masked.batch(all, context);
  const auto before = plain.inputs[0].to_vector<int64_t>(), after = batch.inputs[0].to_vector<int64_t>(),
             target = batch.target.to_vector<int64_t>();
  std::map<std::string, double> share;
  for (size_t i = 0; i < before.size(); ++i) {
    if (target[i] == SpecialIds().pad) {
      CHECK(after[i] == before[i]);
      continue;
    }
    CHECK(target[i] == before[i]);
    CHECK(target[i] > SpecialIds().mask);
    share["chosen"] += 1 / 12'000.0;
    CHECK(after[i] >= SpecialIds().mask);
    share[after[i] == SpecialIds().mask ? "masked" : after[i] == before[i] ? "same" : "other"] += 1;
  }
  const double chosen = share["chosen"] * 12'000;
  CHECK(share["chosen"] == doctest::Approx(0.15).epsilon(0.1));
  CHECK(share["masked"] / chosen == doctest::Approx(0.8).epsilon(0.05));
  CHECK(share["same"] / chosen ==
        doctest::Approx(0.11).epsilon(0.25));  // a tenth of the others is the same word
  // A function of the step and the place in the batch; in evaluation of the sample.
  CHECK(masked.batch(all, context).target.to_vector<int64_t>() == target);
  CHECK(masked.batch(all, {.training = true, .seed = 3, .step = 3}).target.to_vector<int64_t>() != target);
  const auto some = masked.batch(data::Indices{7, 9}, {}), turned = masked.batch(data::Indices{9, 7}, {});
  CHECK(some.target.select(0, 0).to_vector<int64_t>() == turned.target.select(0, 1).to_vector<int64_t>());
  // Short texts, too, have a word to guess.
  const TextDataset short_texts = counting(50, 1);
  const auto one =
      MaskedTexts(short_texts, 15).batch(std::span(all).first(50), context).target.to_vector<int64_t>();
  CHECK(std::count_if(one.begin(), one.end(), [](int64_t id) { return id != 0; }) == 50);
  CHECK_THROWS_AS(MaskedTexts(texts, 15, 0), ConfigError);
  CHECK_THROWS_AS(MaskedTexts(texts, 5), ConfigError);
}

TEST_CASE("masked language modelling: equal gradients under every plan, and it learns") {
  const TextDataset texts = counting(64, 12);
  const MaskedTexts masked(texts, 15);
  std::vector<double> reference;
  for (const nn::Plan plan : {nn::Plan::sequential, nn::Plan::stacked, nn::Plan::replay}) {
    const nn::InitScope init({.seed = 7, .dtype = DType::f64});
    models::TextEncoder model(kConfig);
    models::MaskedLanguageModeling objective(model);
    const auto result =
        nn::accumulate_gradients(objective, {masked.batch(data::Indices{0, 1, 2}, {.training = true})},
                                 {.passes = 3, .alpha = 2, .plan = plan});
    CHECK(result.kl > 0);
    if (reference.empty()) reference = flat_gradients(model);
    CHECK(distance(flat_gradients(model), reference) < 1e-10);
  }
  const nn::InitScope init({.seed = 7});
  models::TextEncoder model(kConfig);
  models::MaskedLanguageModeling objective(model);
  nn::Adam optimizer(model.parameters(), {.lr = 5e-3});
  nn::Trainer trainer(objective, optimizer,
                      {.passes = 2, .alpha = 0.5, .epochs = 300, .batch_size = 16, .progress = false});
  const double at_first = nn::evaluate(objective, masked).ce;
  trainer.fit(masked, masked);
  const double at_last = nn::evaluate(objective, masked).ce;
  CHECK(at_last < 0.5 * at_first);
}
