// Marks in the device's work, and the profiler that takes its times by them.
#include <doctest/doctest.h>

#include "autograd/grad_mode.h"
#include "autograd/profiler.h"
#include "ops/ops.h"
#include "tests/device.h"

using namespace tandem;
using testing::device;

TEST_CASE("marks: the time between two is that of the work between them, which is waited for") {
  Backend& b = backend(device());
  const Tensor x = ones({64, 64}, {.device = device()});
  const auto start = b.mark();
  const Tensor y = exp(x);
  const auto middle = b.mark();
  const Tensor z = matmul(y, y);
  const auto end = b.mark();
  const double whole = end->seconds_since(*start);
  CHECK(middle->seconds_since(*start) > 0);
  CHECK(end->seconds_since(*middle) > 0);
  CHECK(middle->seconds_since(*start) + end->seconds_since(*middle) == doctest::Approx(whole).epsilon(1e-3));
}

TEST_CASE("marks: there is none in a recording") {
  Backend& b = backend(device());
  const Tensor x = ones({8}, {.device = device()});
  exp(x);
  const Profiler profiler(device());
  b.begin_recording();
  CHECK(b.mark() == nullptr);
  const Tensor y = exp(x);
  const auto recording = b.end_recording();
  CHECK(profiler.rows().at("exp").calls == 1);
  CHECK(profiler.rows().at("exp").seconds == 0);
}

TEST_CASE("marks: the profiler times more ops than it keeps marks of") {
  const NoGradGuard no_grad;
  const Tensor x = ones({8}, {.device = device()});
  const Profiler profiler(device());
  for (int i = 0; i < 5000; ++i) exp(x);
  const Profiler::Row row = profiler.rows().at("exp");
  CHECK(row.calls == 5000);
  CHECK(row.seconds > 0);
  CHECK(profiler.rows().at("exp").seconds == row.seconds);  // each counts once
}
