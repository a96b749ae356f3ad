#include <cmath>

#include "nn/optim/schedule.h"
#include "tests/golden.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

TEST_CASE("schedule: golden values") {
  int cases = 0;
  for (const Json& test : golden("optim.json")) {
    if (test["kind"] != "schedule") continue;
    ++cases;
    const Json& o = test["options"];
    const double lr = o["lr"];
    const auto schedule =
        Schedule::parse(test["name"].get<std::string>(), {.warmup = o.value("warmup", 0),
                                                          .total = o.value("total", 0),
                                                          .floor = o.value("min_lr", 0.0) / lr,
                                                          .step_size = o.value("step_size", 0),
                                                          .gamma = o.value("gamma", 0.1)});
    for (size_t i = 0; i < test["steps"].size(); ++i) {
      INFO(test["name"].get<std::string>() << " at step " << test["steps"][i].get<int>());
      CHECK(std::abs(lr * schedule(test["steps"][i]) - test["values"][i].get<double>()) < 1e-14);
    }
  }
  CHECK(cases == 4);
}

TEST_CASE("schedule: constant, linear and warm-up") {
  CHECK(Schedule()(1) == 1);
  CHECK(Schedule::constant(4)(1) == 0.25);
  CHECK(Schedule::constant(4)(4) == 1);
  CHECK(Schedule::constant(4)(400) == 1);
  const auto linear = Schedule::linear(2, 6, 0.5);
  CHECK(linear(1) == 0.5);
  CHECK(linear(2) == 1);
  CHECK(linear(4) == 0.75);
  CHECK(linear(6) == 0.5);
  CHECK(linear(100) == 0.5);
  CHECK(Schedule::step(3, 0.5, 2)(1) == 0.5);
  CHECK(Schedule::step(3, 0.5, 2)(4) == 0.5);
  CHECK(Schedule::cosine(0, 10)(10) == 0);
  CHECK(Schedule::cosine(0, 10).name() == "cosine");
}

TEST_CASE("schedule: bad options are refused") {
  const auto refused = [](const char* text, std::string_view name, ScheduleOptions options) {
    const std::string message = message_of<ConfigError>([&] { Schedule::parse(name, options); });
    CHECK_MESSAGE(contains(message, text), message);
  };
  refused("schedule: \"cosin\" is unknown, expected constant, cosine", "cosin", {});
  refused("cosine: total is 5, expected more than the warmup of 5 steps", "cosine",
          {.warmup = 5, .total = 5});
  refused("cosine: total is 0", "cosine", {});
  refused("linear: total is 0", "linear", {});
  refused("cosine: floor is 2", "cosine", {.total = 5, .floor = 2});
  refused("cosine: floor is nan", "cosine", {.total = 5, .floor = NAN});
  refused("constant: warmup is -1", "constant", {.warmup = -1});
  refused("inverse_sqrt: warmup is 0, expected at least 1", "inverse_sqrt", {});
  refused("step: step_size is 0", "step", {});
  refused("step: gamma is 0", "step", {.step_size = 1, .gamma = 0});
  refused("step: gamma is 1.5", "step", {.step_size = 1, .gamma = 1.5});
  check_throws<ValueError>("constant: step is 0, steps count from 1", [] { Schedule()(0); });
}

}  // namespace
}  // namespace tandem::nn
