// The registry's own errors, and that the suite notices an op without samples.
#include <doctest/doctest.h>

#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

TEST_CASE("an op without samples, without error samples or with one label twice is not accepted") {
  const OpInfo whole = find_op("add");
  CHECK(registration_defects(whole) == "");

  OpInfo op = whole;
  op.cases = nullptr;
  CHECK(registration_defects(op) == "add: has no samples");
  op.cases = [&](OpCases& c) {
    whole.cases(c);
    c.samples.clear();
  };
  CHECK(registration_defects(op) == "add: has no samples");

  op.cases = [&](OpCases& c) {
    whole.cases(c);
    c.errors.clear();
  };
  CHECK(registration_defects(op) == "add: has no error samples");

  op.cases = [&](OpCases& c) {
    whole.cases(c);
    c.samples.push_back(c.samples.front());
  };
  CHECK(registration_defects(op) == "add: has two samples 'equal'");
}

TEST_CASE("an op is registered once") {
  const size_t count = registered_ops().size();
  CHECK_THROWS_WITH_AS(RegisterOp("add", find_op("add").cases), "op: 'add' is registered twice", ConfigError);
  CHECK(registered_ops().size() == count);
}

TEST_CASE("an unknown op is named") {
  CHECK_THROWS_WITH_AS(find_op("no_such_op"),
                       "op: 'no_such_op' is not registered; `tandem ops` lists those that are", ConfigError);
}
