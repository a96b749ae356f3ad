// The registry's own errors, and that the suite notices an op without samples.
#include <doctest/doctest.h>

#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

TEST_CASE("an op without samples, without error samples or with one label twice is not accepted") {
  const OpInfo whole = find_op("add");
  CHECK(registration_defects(whole) == "");

  OpInfo op = whole;
  op.samples = nullptr;
  CHECK(registration_defects(op) == "add: has no samples");
  op.samples = [](SampleMaker&) { return Samples{}; };
  CHECK(registration_defects(op) == "add: has no samples");

  op = whole;
  op.errors = nullptr;
  CHECK(registration_defects(op) == "add: has no error samples");

  op = whole;
  op.samples = [&](SampleMaker& make) {
    Samples samples = whole.samples(make);
    samples.push_back(samples.front());
    return samples;
  };
  CHECK(registration_defects(op) == "add: has two samples 'equal'");
}

TEST_CASE("an op is registered once") {
  const size_t count = registered_ops().size();
  CHECK_THROWS_WITH_AS(RegisterOp(find_op("add")), "op: 'add' is registered twice", ConfigError);
  CHECK(registered_ops().size() == count);
}

TEST_CASE("an unknown op is named") {
  CHECK_THROWS_WITH_AS(find_op("no_such_op"),
                       "op: 'no_such_op' is not registered; `tandem ops` lists those that are", ConfigError);
}
