// Decoding: steps with a cache are the whole model's, beam search finds what exhaustive search finds, and a
// text does not depend on the others of its batch.
#include "models/transformer/decoding.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "autograd/grad_mode.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using namespace tandem::models;

namespace {

TransformerConfig tiny(bool norm_first, bool copy, int64_t vocab = 12) {
  return {.vocab = vocab,
          .dim = 8,
          .heads = 2,
          .mlp_dim = 16,
          .encoder_layers = 2,
          .decoder_layers = 2,
          .max_positions = 16,
          .norm_first = norm_first,
          .copy = copy};
}

template <class Model, class Config>
std::unique_ptr<Model> make(const Config& config, uint64_t seed, double sharpness = 1) {
  const nn::InitScope init({.seed = seed, .dtype = DType::f64});
  auto model = std::make_unique<Model>(config);
  model->eval();
  const NoGradGuard no_grad;
  for (const Tensor& p : model->parameters()) p.mul_(sharpness);  // distributions with clear winners
  return model;
}

double log_probability(Transformer& model, const Ids& source, const Ids& target) {
  Ids from = source, in{2}, out = target;
  from.push_back(3), in.insert(in.end(), target.begin(), target.end()), out.push_back(3);
  const Tensor logits =
      model.forward(from_values(from, {1, std::ssize(from)}), from_values(in, {1, std::ssize(in)}));
  const auto logs = log_softmax(logits, -1).to_vector<double>();
  double sum = 0;
  for (size_t t = 0; t < out.size(); ++t) sum += logs[t * logits.size(2) + out[t]];
  return sum;
}

}  // namespace

TEST_CASE("decoding: a step with a cache is the whole decoder's") {
  const NoGradGuard no_grad;
  for (bool norm_first : {false, true}) {
    for (bool copy : {false, true}) {
      const auto model = make<Transformer>(tiny(norm_first, copy), 3);
      const Tensor source = from_values(Ids{5, 6, 7, 3, 8, 3, 0, 0}, {2, 4});
      const Tensor target = from_values(Ids{2, 5, 9, 6, 2, 7, 7, 11}, {2, 4});
      const Tensor whole = model->forward(source, target);
      Transformer::State state = model->begin(source);
      for (int64_t t = 0; t < 4; ++t)
        CHECK(difference(model->step(state, target.select(1, t).contiguous()), whole.select(1, t)) < 1e-10);
      // Rows chosen, repeated and turned round go on as themselves.
      Transformer::State other = model->begin(source);
      model->step(other, target.select(1, 0).contiguous());
      Transformer::select(other, from_values(Ids{1, 0, 1}, {3}));
      const Tensor next = model->step(other, from_values(Ids{7, 5, 7}, {3}));
      CHECK(difference(next.select(0, 0), whole.select(1, 1).select(0, 1)) < 1e-10);
      CHECK(difference(next.select(0, 1), whole.select(1, 1).select(0, 0)) < 1e-10);
      CHECK(difference(next.select(0, 2), whole.select(1, 1).select(0, 1)) < 1e-10);
      // As do the targets of one row in another row of the same source.
      Transformer::State two = model->begin(source.slice(0, 0, 1).expand({2, 4}));
      model->step(two, from_values(Ids{2, 9}, {2}));
      Transformer::copy_targets(two, from_values(Ids{0}, {1}), from_values(Ids{1}, {1}));
      const Tensor both = model->step(two, from_values(Ids{5, 5}, {2}));
      CHECK(difference(both.select(0, 0), whole.select(1, 1).select(0, 0)) < 1e-10);
      CHECK(difference(both.select(0, 1), both.select(0, 0)) < 1e-10);
    }
    const auto lm = make<LanguageModel>(
        LanguageModelConfig{
            .vocab = 12, .dim = 8, .heads = 2, .mlp_dim = 16, .max_positions = 8, .norm_first = norm_first},
        4);
    const Tensor ids = from_values(Ids{2, 5, 9, 6, 1, 7}, {2, 3});
    const Tensor whole = lm->forward(ids);
    LanguageModel::State state = lm->begin();
    for (int64_t t = 0; t < 3; ++t)
      CHECK(difference(lm->step(state, ids.select(1, t).contiguous()), whole.select(1, t)) < 1e-10);
    // The first of a text at once.
    LanguageModel::State at_once = lm->begin();
    CHECK(difference(lm->step(at_once, ids.slice(1, 0, 2)), whole.select(1, 1)) < 1e-10);
    CHECK(difference(lm->step(at_once, ids.select(1, 2).contiguous()), whole.select(1, 2)) < 1e-10);
    check_throws<ShapeError>("one position after the first 3", [&] { lm->step(at_once, ids); });
  }
}

TEST_CASE("decoding: a wide beam finds what exhaustive search finds") {
  const NoGradGuard no_grad;
  constexpr int64_t kVocab = 6, kMost = 4;  // two words beside the special ids and the mask's
  int longer = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const auto model = make<Transformer>(tiny(seed % 2, seed % 3 == 0, kVocab), seed, 1.5);
    for (double penalty : {0.0, 0.6, 2.0}) {
      const Ids source{4, 5, 4};
      Hypothesis best{{}, -1e300};
      std::function<void(Ids)> extend = [&](Ids text) {
        const double score = log_probability(*model, source, text) /
                             std::pow((5.0 + static_cast<double>(text.size()) + 1) / 6, penalty);
        if (score > best.score) best = {text, score};
        if (std::ssize(text) + 1 == kMost) return;
        for (int64_t id = 0; id < kVocab; ++id) {
          if (id == 3) continue;
          Ids next = text;
          next.push_back(id);
          extend(next);
        }
      };
      extend({});
      const auto found =
          beam_search(*model, {source}, {.beam = 200, .length_penalty = penalty, .max_length = kMost});
      CHECK(found[0].ids == best.ids);
      CHECK(found[0].score == doctest::Approx(best.score).epsilon(1e-5));  // the search adds in f32's logits
      longer += found[0].ids.size() > 1;
    }
  }
  CHECK(longer > 3);  // else little was searched
}

TEST_CASE("decoding: a beam of one is greedy, and a wider one is no worse") {
  const NoGradGuard no_grad;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const auto model = make<Transformer>(tiny(true, false), seed, 2);
    const Ids source{5, 6, 7};
    Ids expected;
    for (int64_t n = 0; n < 9; ++n) {
      Ids in{2};
      in.insert(in.end(), expected.begin(), expected.end());
      const Tensor logits =
          model->forward(from_values(Ids{5, 6, 7, 3}, {1, 4}), from_values(in, {1, std::ssize(in)}));
      const auto next = argmax(logits.select(1, n), -1).to_vector<int64_t>()[0];
      if (next == 3) break;
      expected.push_back(next);
    }
    const auto greedy = beam_search(*model, {source}, {.beam = 1, .length_penalty = 0, .max_length = 10});
    CHECK(greedy[0].ids == expected);
    CHECK(greedy[0].score == doctest::Approx(log_probability(*model, source, greedy[0].ids)).epsilon(1e-5));
    const auto wide = beam_search(*model, {source}, {.beam = 50, .length_penalty = 0, .max_length = 10});
    CHECK(wide[0].score >= greedy[0].score - 1e-9);
  }
}

TEST_CASE("decoding: the other texts of a batch change nothing") {
  const auto model = make<Transformer>(tiny(false, true), 7, 2);
  const std::vector<Ids> sources{{5, 6, 7}, {9}, {4, 4, 4, 4, 4, 4, 4, 4}, {11, 10}};
  const BeamOptions options{.beam = 3, .max_length = 12};
  const auto together = beam_search(*model, sources, options);
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto alone = beam_search(*model, {sources[i]}, options);
    CHECK(alone[0].ids == together[i].ids);
    CHECK(alone[0].score == doctest::Approx(together[i].score).epsilon(1e-6));
    CHECK(together[i].ids.size() < 12);
    CHECK(std::count(together[i].ids.begin(), together[i].ids.end(), 3) == 0);
  }
  CHECK(beam_search(*model, std::vector<Ids>{}, options).empty());
  check_throws<ValueError>("source 1 is empty", [&] { beam_search(*model, {{5}, {}}, options); });
  check_throws<ShapeError>("17 tokens", [&] { beam_search(*model, {Ids(16, 5)}, options); });
  check_throws<ConfigError>("beam", [&] { beam_search(*model, {{5}}, {.beam = 0}); });
}

TEST_CASE("sampling: what temperature, top-k and top-p leave") {
  const std::vector<float> logits{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const auto frequencies = [&](const SampleOptions& options) {
    std::map<int64_t, double> counts;
    constexpr int kDraws = 10'000;
    for (int i = 0; i < kDraws; ++i) counts[choose(logits, (i + 0.5) / kDraws, options)] += 1.0 / kDraws;
    return counts;
  };
  const auto near = [](double x) { return doctest::Approx(x).epsilon(0.002); };
  auto f = frequencies({});
  CHECK(f[0] == near(0.1));
  CHECK(f[1] == near(0.4));
  CHECK(f[2] == near(0.2));
  CHECK(f[3] == near(0.3));
  f = frequencies({.top_k = 2});
  CHECK(f.size() == 2);
  CHECK(f[1] == near(0.4 / 0.7));
  CHECK(frequencies({.top_p = 0.69}).size() == 2);
  CHECK(frequencies({.top_p = 0.71}).size() == 3);
  CHECK(frequencies({.top_p = 0.01}).size() == 1);
  CHECK(frequencies({.temperature = 0}).size() == 1);
  f = frequencies({.temperature = 0.5});
  CHECK(f[1] == near(0.16 / 0.30));
}

TEST_CASE("sampling: the token is the one that a sorted cumulative distribution has at u") {
  SampleMaker make(11, DType::f32, kCpu);
  int far = 0;
  for (int n = 0; n < 400; ++n) {
    const int64_t vocab = n % 3 == 0 ? 9 : 700;
    std::vector<float> logits = (make.normal({vocab}) * (n % 5)).to_vector<float>();
    if (n % 4 == 0) std::fill(logits.begin(), logits.begin() + 5, logits[6]);  // ties
    const SampleOptions o{.temperature = n % 7 == 0 ? 0.3 : 1.2,
                          .top_k = n % 2 ? 0 : 1 + n % 13,
                          .top_p = n % 3 == 1 ? 0.8 : 1};
    const double u = (n + 0.5) / 400;
    Ids order(vocab);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
    if (o.top_k > 0 && o.top_k < vocab) order.resize(o.top_k);
    std::vector<double> p;
    double sum = 0, kept = 0;
    for (int64_t id : order)
      sum += p.emplace_back(std::exp((double{logits[id]} - logits[order[0]]) / o.temperature));
    size_t count = 0, at = 0;
    while (count < p.size() && (count == 0 || kept < o.top_p * sum)) kept += p[count++];
    for (double rest = u * kept - p[0]; at + 1 < count && rest >= 0; rest -= p[at]) ++at;
    CHECK(choose(logits, u, o) == order[at]);
    far += at > 64;
  }
  CHECK(far > 20);  // of those that need more than the likeliest
}

TEST_CASE("sampling: a pure function of the seed, for any number of texts") {
  const auto model = make<LanguageModel>(
      LanguageModelConfig{.vocab = 12, .dim = 8, .heads = 2, .mlp_dim = 16, .max_positions = 8}, 4, 2);
  const SampleOptions options{.length = 20, .seed = 5};
  const auto texts = sample(*model, {3, 5}, 4, options);
  CHECK(texts.size() == 4);
  for (const Ids& text : texts) CHECK(text.size() == 20);  // more than there are positions
  CHECK(texts[0] != texts[1]);
  CHECK(sample(*model, {3, 5}, 1, options)[0] == texts[0]);
  CHECK(sample(*model, {3, 5}, 4, {.length = 20, .seed = 6}) != texts);
  const auto greedy = sample(*model, {3, 5}, 2, {.length = 20, .temperature = 0});
  CHECK(greedy[0] == greedy[1]);
  CHECK(greedy[0] == sample(*model, {3, 5}, 1, {.length = 20, .top_k = 1, .seed = 9})[0]);
  for (const Ids& text : sample(*model, {3, 5}, 8, {.length = 20, .stop_at_eos = true})) {
    const auto end = std::find(text.begin(), text.end(), 3);
    CHECK((end == text.end() ? text.size() == 20 : end == text.end() - 1));
  }
  check_throws<ValueError>("prompt", [&] { sample(*model, {}, 1, options); });
  check_throws<ConfigError>("top_p", [&] { sample(*model, {3}, 1, {.top_p = 0}); });
}

TEST_CASE("sample: a prompt that fits into the positions is read as a whole") {
  const auto model = make<LanguageModel>(
      LanguageModelConfig{.vocab = 12, .dim = 8, .heads = 2, .mlp_dim = 16, .max_positions = 8}, 4, 2);
  const SampleOptions likeliest{.length = 1, .temperature = 0};
  const auto next = [&](const Ids& read) {
    const NoGradGuard no_grad;
    const Tensor last = model->forward(from_values(read, {1, std::ssize(read)})).select(1, -1);
    return argmax(last, -1).item<int64_t>();
  };
  const Ids text{3, 5, 7, 9, 4, 6, 8, 10, 11};
  for (const int64_t count : {4, 5, 7, 8}) {
    INFO(count);
    const Ids prompt(text.begin(), text.begin() + count);
    CHECK(sample(*model, prompt, 2, likeliest)[1] == Ids{next(prompt)});
  }
  CHECK(sample(*model, text, 1, likeliest)[0] == Ids{next({text.end() - 4, text.end()})});  // half of them
  // The text that outgrows them goes on from half of them, too.
  const Ids two = sample(*model, {text.begin(), text.begin() + 8}, 1, {.length = 2, .temperature = 0})[0];
  CHECK(two[1] == next({6, 8, 10, two[0]}));
  const auto one = make<LanguageModel>(
      LanguageModelConfig{.vocab = 12, .dim = 8, .heads = 2, .mlp_dim = 16, .max_positions = 1}, 4, 2);
  CHECK(sample(*one, {3, 5}, 2, {.length = 3})[0].size() == 3);
}
