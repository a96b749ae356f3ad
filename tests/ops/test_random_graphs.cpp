// Random graphs. A failure prints C++ to paste into this file.
#include <doctest/doctest.h>

#include <set>

#include "tests/device.h"
#include "tests/ops/random_graph.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

void check_graphs(uint64_t count, size_t least_ops) {
  if (device() != kCpu) return;
  std::set<std::string> ops;
  for (uint64_t seed = 0; seed < count; ++seed) {
    const Graph graph = random_graph(seed);
    for (const Step& step : graph.steps) ops.insert(step.op);
    const std::string failure = failure_of(graph);
    if (failure.empty()) continue;
    const Graph smallest = shrunk(graph);
    FAIL_CHECK("graph ", seed, ": ", failure, "\nshrunk: ", failure_of(smallest), "\n", to_cpp(smallest));
  }
  CHECK(ops.size() >= least_ops);
}

}  // namespace

TEST_CASE("random graphs: gradients agree with central differences, and with those pass by pass") {
  check_graphs(200, 80);
}

// In the suite `full`.
TEST_CASE("random graphs: 10,000 of them" * doctest::skip()) { check_graphs(10'000, 80); }

TEST_CASE("a fault in a random graph is found, shrunk and printed") {
  if (device() != kCpu) return;
  Graph graph = random_graph(7);
  REQUIRE(graph.steps.size() > 5);
  CHECK(failure_of(graph) == "");
  const int last = static_cast<int>(graph.leaves.size() + graph.steps.size()) - 1;
  graph.steps.push_back({"fault", Part::weighted, 0, {{last, 3}}});
  CHECK(contains(failure_of(graph), "central differences"));
  const Graph smallest = shrunk(graph);
  REQUIRE(smallest.steps.size() == 1);
  CHECK(smallest.steps[0].op == "fault");
  CHECK(smallest.passes == 1);
  const Graph printed{.seed = 5,
                      .passes = 2,
                      .leaves = {{{2, 3}, true}, {{}, false}},
                      .steps = {{"exp", Part::plain, 1, {{0, 3}}}, {"fault", Part::weighted, 0, {{-1, 0}}}}};
  CHECK(to_cpp(printed) == R"(CHECK(failure_of({.seed = 5, .passes = 2,
 .leaves = {{{2, 3}, true}, {{}, false}},
 .steps = {{"exp", Part::plain, 1, {{0, 3}}},
           {"fault", Part::weighted, 0, {{-1, 0}}}}}) == "");)");
}
