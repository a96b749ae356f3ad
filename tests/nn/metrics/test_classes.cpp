// Scores class by class and calibration, against values counted by hand.
#include "nn/metrics/classes.h"

#include "tests/testing.h"

namespace tandem::metrics {
using namespace testing;
namespace {

TEST_CASE("confusion_matrix, class_scores: precision, recall and F1 of each class") {
  // Class 3 is never there, and once predicted.
  const Classes target{0, 0, 0, 1, 1, 2, 2, 2}, predicted{0, 0, 1, 1, 0, 2, 3, 2};
  const Confusion counts = confusion_matrix(predicted, target, 4);
  CHECK(counts == Confusion{{2, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 2, 1}, {0, 0, 0, 0}});
  const std::vector<ClassScores> scores = class_scores(counts);
  REQUIRE(scores.size() == 4);
  CHECK(scores[0].precision() == 2.0 / 3);
  CHECK(scores[0].recall() == 2.0 / 3);
  CHECK(scores[1].precision() == 0.5);
  CHECK(scores[1].recall() == 0.5);
  CHECK(scores[2].precision() == 1);
  CHECK(scores[2].recall() == 2.0 / 3);
  CHECK(scores[2].f1() == 0.8);
  CHECK(scores[3].precision() == 0);
  CHECK(scores[3].recall() == 0);
  CHECK(scores[3].f1() == 0);
  CHECK(scores[3].predicted == 1);
  CHECK(scores[3].target == 0);
  double f1 = 0;
  for (const ClassScores& each : scores) f1 += each.f1() / 4;
  CHECK(std::abs(f1 - macro_f1(predicted, target)) < 1e-12);
  CHECK_THROWS_WITH_AS(confusion_matrix({0, 4}, {0, 1}, 4),
                       "confusion_matrix: class 4 of sample 1 is none of 4", ValueError);
  CHECK_THROWS_WITH_AS(confusion_matrix({0}, {0, 1}, 4), "confusion_matrix: 1 predictions, but 2 targets",
                       ValueError);
  CHECK_THROWS_AS(confusion_matrix({}, {}, 4), ValueError);
}

TEST_CASE("reliability: bins (0, 0.25], (0.25, 0.5], ... and the calibration error over them") {
  const auto bins = reliability({0.5, 0.4, 0.9, 1, 0.8, 0.76}, {true, false, true, true, false, true}, 4);
  REQUIRE(bins.size() == 4);
  CHECK(bins[0].samples == 0);
  CHECK(bins[1].samples == 2);
  CHECK(bins[2].samples == 0);
  CHECK(bins[1].confidence == doctest::Approx(0.45));
  CHECK(bins[1].accuracy == 0.5);
  CHECK(bins[3].samples == 4);
  CHECK(bins[3].accuracy == 0.75);
  CHECK(bins[3].confidence == doctest::Approx(0.865));
  CHECK(expected_calibration_error(bins) == doctest::Approx((2 * 0.05 + 4 * 0.115) / 6));
  CHECK(expected_calibration_error(reliability({}, {})) == 0);
  CHECK_THROWS_WITH_AS(reliability({1.5}, {true}),
                       "reliability: expected probabilities, got 1.5 for sample 0", ValueError);
  CHECK_THROWS_AS(reliability({0.5}, {}), ValueError);
  CHECK_THROWS_AS(reliability({0.5}, {true}, 0), ValueError);
}

}  // namespace
}  // namespace tandem::metrics
