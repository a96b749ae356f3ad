// Scores of tags and of sets of labels against their reference implementations: tests/golden/make_labels.py
// says which and made labels.json.
#include <cmath>

#include "nn/metrics/entities.h"
#include "nn/metrics/labels.h"
#include "tests/golden.h"
#include "tests/testing.h"

namespace tandem::metrics {
using namespace testing;
namespace {

const Json& golden(const char* kind, size_t fewest) {
  static const Json cases = testing::golden("labels.json");
  REQUIRE(cases.at(kind).size() >= fewest);
  return cases.at(kind);
}

bool near(double ours, const Json& theirs) { return std::abs(ours - theirs.get<double>()) <= 1e-12; }

LabelSets sets_of(const Json& rows) {
  LabelSets sets;
  for (const Json& row : rows) {
    sets.emplace_back();
    for (const Json& value : row) sets.back().push_back(value.get<double>() > 0);
  }
  return sets;
}

TEST_CASE("entities: equal to seqeval, whatever order the tags are in") {
  for (const Json& c : golden("tags", 58)) {
    CAPTURE(c.dump());
    const std::vector<Tags> predicted = c.at("predicted"), target = c.at("target");
    for (size_t i = 0; i < target.size(); ++i) {
      Json spans = Json::array();
      for (const auto& [type, begin, end] : entities(target[i])) spans.push_back({type, begin, end});
      CHECK(spans == c.at("entities")[i]);
    }
    const EntityScores scores = entity_scores(predicted, target);
    CHECK(near(scores.precision, c.at("precision")));
    CHECK(near(scores.recall, c.at("recall")));
    CHECK(near(scores.f1, c.at("f1")));
    CHECK(near(scores.macro_f1, c.at("macro_f1")));
  }
  check_throws<ValueError>("sentence 0: 1 tags for 2 words", [] { entity_scores({{"O"}}, {{"O", "O"}}); });
  check_throws<ValueError>("tag 1 is empty", [] { entities({"O", ""}); });
  check_throws<ValueError>("0 predicted sentences, 1 targets", [] { entity_scores({}, {{"O"}}); });
}

TEST_CASE("labels: equal to scikit-learn") {
  for (const Json& c : golden("labels", 30)) {
    CAPTURE(c.dump());
    const LabelScores scores = c.at("scores");
    const LabelSets predicted = sets_of(c.at("scores")), target = sets_of(c.at("target"));
    CHECK(near(exact_match(predicted, target), c.at("exact")));
    CHECK(near(micro_label_f1(predicted, target), c.at("micro_f1")));
    CHECK(near(macro_label_f1(predicted, target), c.at("macro_f1")));
    CHECK(near(mean_average_precision(scores, target), c.at("map")));
  }
  check_throws<ValueError>("sample 1: 1 predictions and 2 targets, expected 2 classes", [] {
    exact_match({{true, true}, {true}}, {{true, true}, {true, false}});
  });
  check_throws<ValueError>("score of class 0 of sample 0 is nan",
                           [] { mean_average_precision({{NAN}}, {{true}}); });
}

}  // namespace
}  // namespace tandem::metrics
