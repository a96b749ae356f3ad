// The registry's own errors, that the suite notices an op without samples, and that no op of ops/ is left
// out.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "autograd/profiler.h"
#include "tests/golden.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// Calls f(line) for every line of C++ in ops/.
void for_each_source_line(const std::function<void(const std::string&)>& f) {
  const std::filesystem::path tests = std::filesystem::path(golden_folder()).parent_path();
  for (const auto& file : std::filesystem::recursive_directory_iterator(tests.parent_path() / "ops")) {
    if (file.path().extension() != ".cpp" && file.path().extension() != ".h") continue;
    std::ifstream text(file.path());
    for (std::string line; std::getline(text, line);) f(line);
  }
}

// The ops that `run` runs, forward and backward.
std::set<std::string> ops_run_by(const std::function<void()>& run) {
  const Profiler profiler;
  run();
  std::set<std::string> names;
  for (const auto& [name, row] : profiler.rows()) names.insert(name.substr(0, name.find(" (backward)")));
  return names;
}

}  // namespace

TEST_CASE("every registration in the sources of ops/ reached the registry") {
  size_t count = 0;
  for_each_source_line([&](const std::string& line) { count += line.starts_with("const RegisterOp "); });
  // Fewer were registered: a file is not in meson.build, or the linker dropped one. More: one is not written
  // as `const RegisterOp NAME` at the start of a line.
  CHECK(registered_ops().size() == count);
}

// The rule for what the suite covers: an op is registered, or it is part of the gradient of one that is, so
// that the gradient check of that op runs it. What the forward of a sample runs is always registered.
TEST_CASE("every op is registered, or run by the gradient check of one that is") {
  std::set<std::string> covered;
  for (const OpInfo& op : registered_ops()) covered.insert(op.name);
  const std::set<std::string> registered = covered;
  for (const OpInfo& op : registered_ops()) {
    for (const Sample& sample : samples_of(op)) {
      for (const std::string& name : ops_run_by([&] { sample.function(sample.inputs); }))
        CHECK_MESSAGE(registered.contains(name), op.name, " runs ", name, ", which is not registered");
      if (!op.differentiable) continue;
      covered.merge(ops_run_by([&] {
        gradcheck(sample.function, sample.inputs, {.directions = 1, .second_order = op.second_order});
      }));
    }
  }
  const std::regex literal("\"(\\w+)\"");
  for_each_source_line([&](const std::string& line) {
    if (line.find("const char* name") == std::string::npos) return;
    for (std::sregex_iterator match(line.begin(), line.end(), literal), end; match != end; ++match)
      CHECK_MESSAGE(covered.contains((*match)[1]), (*match)[1].str(), " is not registered");
  });
}

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
  op.no_errors = "a reason";
  CHECK(registration_defects(op) == "");
  op.cases = whole.cases;
  CHECK(registration_defects(op) == "add: has error samples after all");
  op.no_errors = "";

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
