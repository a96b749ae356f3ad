// Metrics against their reference implementations: tests/golden/make_metrics.py says which and made
// metrics.json.
#include <cmath>
#include <limits>

#include "nn/metrics/bleu.h"
#include "nn/metrics/chrf.h"
#include "nn/metrics/overlap.h"
#include "nn/metrics/rouge.h"
#include "nn/metrics/scores.h"
#include "tests/golden.h"
#include "tests/testing.h"

namespace tandem::metrics {
using namespace testing;
namespace {

// The cases of one kind; fewer than there must be would be a damaged file.
const Json& golden(const char* kind, size_t fewest) {
  static const Json cases = testing::golden("metrics.json");
  REQUIRE(cases.at(kind).size() >= fewest);
  return cases.at(kind);
}

bool near(double ours, const Json& theirs) {
  const double expected = theirs.get<double>();
  return std::abs(ours - expected) <= 1e-9 * std::max(std::abs(expected), 1e-3);
}

TEST_CASE("bleu: equal to sacreBLEU") {
  for (const Json& c : golden("texts", 60)) {
    CAPTURE(c.at("name"));
    const Texts hypotheses = c.at("hypotheses");
    const Json& expected = c.at("bleu");
    for (size_t i = 0; i < hypotheses.size(); ++i)
      CHECK(tokenize_13a(hypotheses[i]) == c.at("tokens")[i].get<Texts>());
    const Bleu bleu = corpus_bleu(hypotheses, c.at("references").get<std::vector<Texts>>());
    CHECK_MESSAGE(near(bleu.score, expected.at("score")), bleu.score, " ", expected.at("score"));
    for (int n = 0; n < 4; ++n) CHECK(near(bleu.precisions[n], expected.at("precisions")[n]));
    CHECK(near(bleu.brevity_penalty, expected.at("bp")));
    CHECK(bleu.hypothesis_length == expected.at("lengths")[0]);
    CHECK(bleu.reference_length == expected.at("lengths")[1]);
    CHECK(bleu.signature() == expected.at("signature"));
  }
}

TEST_CASE("chrF and chrF++: equal to sacreBLEU") {
  for (const Json& c : golden("texts", 60)) {
    CAPTURE(c.at("name"));
    const auto references = c.at("references").get<std::vector<Texts>>();
    for (const int words : {0, 2}) {
      const char* name = words == 0 ? "chrf" : "chrf++";
      const Chrf chrf = corpus_chrf(c.at("hypotheses"), references, {.word_order = words});
      const Json& expected = c.at(name).at("score");
      CHECK_MESSAGE(near(chrf.score, expected), name, " ", chrf.score, " ", expected);
      CHECK(chrf.signature() == c.at(name).at("signature"));
    }
  }
}

TEST_CASE("rouge: texts in other scripts than Latin have scores") {
  const auto score = [](const char* hypothesis, const char* reference) {
    return rouge({hypothesis}, {reference}).rouge1;
  };
  CHECK(score("Красная кошка спит.", "красная кошка спит") == 100);
  CHECK(score("КОШКА, ЁЖ", "кошка ёж сова") == doctest::Approx(80));
  CHECK(score("η ΓΑΤΑ", "Η γατα") == 100);
  CHECK(score("猫在睡", "猫睡了") == doctest::Approx(200.0 / 3));  // two of three characters
  CHECK(score("고양이 잔다", "고양이 논다") == 50);
  CHECK(score("बिल्ली सोती है।", "बिल्ली सोती है") == 100);
  CHECK(score("кошка", "собака") == 0);
  CHECK(score("— … “ ” 🙂", "кошка") == 0);
  CHECK(score("naïve café", "na ve caf") == 100);  // Latin beyond ASCII parts words, as in rouge-score
}

TEST_CASE("rouge: equal to rouge-score") {
  for (const Json& c : golden("texts", 60)) {
    CAPTURE(c.at("name"));
    const Rouge ours = rouge(c.at("hypotheses"), c.at("references")[0]);
    const Json& expected = c.at("rouge");
    if (c.at("name") == "Chinese" || c.at("name") == "Cyrillic") {  // of which rouge-score sees nothing
      CHECK(expected.at("rouge1") == 0);
      CHECK(ours.rouge1 > 50);
      continue;
    }
    CHECK_MESSAGE(near(ours.rouge1, expected.at("rouge1")), ours.rouge1, " ", expected.at("rouge1"));
    CHECK(near(ours.rouge2, expected.at("rouge2")));
    CHECK(near(ours.rougeL, expected.at("rougeL")));
  }
}

TEST_CASE("scores of classes: equal to scikit-learn") {
  for (const Json& c : golden("classes", 40)) {
    const Classes predicted = c.at("predicted"), target = c.at("target");
    CAPTURE(Json(predicted).dump().substr(0, 60));
    CHECK(near(accuracy(predicted, target), c.at("accuracy")));
    CHECK(near(macro_f1(predicted, target), c.at("macro_f1")));
    CHECK(near(matthews_correlation(predicted, target), c.at("matthews")));
  }
}

TEST_CASE("correlations: equal to SciPy") {
  for (const Json& c : golden("numbers", 30)) {
    const Numbers a = c.at("a"), b = c.at("b");
    CAPTURE(Json(a).dump().substr(0, 60));
    CHECK_MESSAGE(near(pearson(a, b), c.at("pearson")), pearson(a, b), " ", c.at("pearson"));
    CHECK_MESSAGE(near(spearman(a, b), c.at("spearman")), spearman(a, b), " ", c.at("spearman"));
  }
}

TEST_CASE("correlations: what has none is a ValueError") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  // The mean of these three is not 0.1 in f64, so their variance is not 0 either.
  CHECK(message_of<ValueError>([] {
          pearson({0.1, 0.1, 0.1}, {1, 2, 3});
        }) == "correlation: the predictions are all the same number");
  CHECK(message_of<ValueError>([] {
          pearson({1, 2, 3}, {0.1, 0.1, 0.1});
        }) == "correlation: the targets are all the same number");
  CHECK(message_of<ValueError>([] {
          spearman({7, 7}, {1, 2});
        }) == "correlation: the predictions are all the same number");
  for (auto correlation : {pearson, spearman}) {
    CHECK(message_of<ValueError>([&] {
            correlation({1, nan, 2}, {1, 2, 3});
          }) == "correlation: value 1 of the predictions is nan, expected a finite number");
    CHECK(message_of<ValueError>([&] {
            correlation({1, 2}, {1, inf});
          }) == "correlation: value 1 of the targets is inf, expected a finite number");
    CHECK(message_of<ValueError>([&] {
            correlation({1, 2}, {1, 2, 3});
          }) == "correlation: 2 predictions, but 3 targets");
    CHECK(message_of<ValueError>([&] { correlation({1}, {1}); }) ==
          "correlation: expected at least 2 values, got 1");
  }
}

TEST_CASE("metrics: as many hypotheses as references, and at least one") {
  const Texts two{"a", "b"}, one{"a"}, none;
  CHECK(message_of<ValueError>([&] { corpus_bleu(two, one); }) == "bleu: 2 hypotheses, but 1 references");
  CHECK(message_of<ValueError>([&] {
          corpus_bleu(two, std::vector<Texts>{two, one});
        }) == "bleu: 2 hypotheses, but 1 references");
  CHECK(message_of<ValueError>([&] { corpus_bleu(none, none); }) == "bleu: no hypotheses");
  CHECK(message_of<ValueError>([&] { corpus_bleu(two, std::vector<Texts>{}); }) == "bleu: no references");
  CHECK(message_of<ValueError>([&] { corpus_chrf(two, one); }) == "chrF: 2 hypotheses, but 1 references");
  CHECK(message_of<ValueError>([&] { corpus_chrf(none, none); }) == "chrF: no hypotheses");
  CHECK(message_of<ValueError>([&] { corpus_chrf(two, std::vector<Texts>{}); }) == "chrF: no references");
  CHECK(message_of<ValueError>([&] { corpus_chrf(one, one, {.character_order = 0}); }) ==
        "chrF: expected character_order >= 1 and word_order >= 0, got 0 and 0");
  CHECK(message_of<ValueError>([&] { rouge(one, two); }) == "rouge: 1 hypotheses, but 2 references");
  CHECK(message_of<ValueError>([&] { rouge(none, none); }) == "rouge: no hypotheses");
  CHECK(message_of<ValueError>([] { accuracy({1}, {1, 2}); }) == "accuracy: 1 predictions, but 2 targets");
  CHECK(message_of<ValueError>([] { macro_f1({}, {}); }) == "macro_f1: expected at least 1 values, got 0");
  CHECK(message_of<ValueError>([] {
          matthews_correlation({1, 2}, {1});
        }) == "matthews_correlation: 2 predictions, but 1 targets");
}

TEST_CASE("language models: perplexity and bits per character") {
  CHECK(perplexity(std::log(50.0)) == doctest::Approx(50).epsilon(1e-12));
  // 3 tokens of 4 bits each for 8 characters.
  CHECK(bits_per_character(4 * std::log(2.0), 3, 8) == doctest::Approx(1.5).epsilon(1e-12));
  CHECK(message_of<ValueError>([] { bits_per_character(1, 1, 0); }) ==
        "bits_per_character: expected at least one character, got 0");
}

TEST_CASE("overlap: the nearest training source's, by sets of words") {
  const Texts training{"a b c d", "The library, for XML files", "x", ""};
  const std::vector<double> overlaps = nearest_overlap(
      {"d c b a a", "library for JSON files", "nothing known", "", "a b x", "caffè the"}, training);
  REQUIRE(overlaps.size() == 6);
  CHECK(overlaps[0] == 1);
  CHECK(overlaps[1] == 3.0 / 6);
  CHECK(overlaps[2] == 0);
  CHECK(overlaps[3] == 0);
  CHECK(overlaps[4] == 2.0 / 5);
  CHECK(overlaps[5] == 1.0 / 6);  // caffè is one word
  CHECK(nearest_overlap({"a"}, {}) == std::vector<double>{0});
}

}  // namespace
}  // namespace tandem::metrics
