#include "nn/ranks/watch.h"

#include <doctest/doctest.h>

#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

using std::chrono::seconds;

// Three ranks, each of which is heard of every second, but for those that are told to be silent.
struct Scene {
  Watch::Clock::time_point now{};
  Watch watch{3, now};
  LifeSign signs[3] = {{LifeSign::step}, {LifeSign::step}, {LifeSign::step}};
  bool silent[3] = {};

  std::string after(int64_t count) {
    for (int64_t second = 0; second < count; ++second) {
      now += seconds(1);
      for (int i = 0; i < 3; ++i)
        if (!silent[i]) watch.heard(i, signs[i], now);
      if (const auto trouble = watch.trouble(now)) return *trouble;
    }
    return "";
  }
};

TEST_CASE("watch: a rank that gives no sign of life is named, with the step it was at") {
  Scene scene;
  scene.signs[2].at_step = 57;
  CHECK(scene.after(5).empty());
  scene.silent[2] = true;
  CHECK(scene.after(Watch::kSilence.count()).empty());
  CHECK(scene.after(1) == "rank 2 has given no sign of life for 20 seconds; it was at step 57");
}

TEST_CASE("watch: a rank at one step while others wait for it") {
  Scene scene;
  scene.signs[0].doing = scene.signs[2].doing = LifeSign::waiting;
  scene.signs[1].at_step = 8;
  CHECK(scene.after(Watch::kPatience.count()).empty());
  CHECK(scene.after(2) == "rank 1 has been at step 8 for 40 seconds while others wait for it");
}

TEST_CASE("watch: long steps of all, and long work outside of steps, are no trouble") {
  Scene scene;
  CHECK(scene.after(1000).empty());  // nobody waits
  scene.signs[1].doing = scene.signs[2].doing = LifeSign::waiting;
  scene.signs[0].doing = LifeSign::other;  // it validates, or saves
  CHECK(scene.after(1000).empty());
  scene.signs[0].doing = LifeSign::step;
  for (int call = 0; call < 100; ++call) {  // steps that take their time, but go on
    for (LifeSign& sign : scene.signs) ++sign.calls;
    CHECK(scene.after(30).empty());
  }
}

}  // namespace
}  // namespace tandem::nn
