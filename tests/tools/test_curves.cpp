#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "nn/data/png.h"
#include "tests/files.h"
#include "tools/corpora/process.h"
#include "tools/tandem/curves.h"
#include "tools/tandem/live_curves.h"

namespace tandem::data {
using namespace testing;
namespace {

const std::string kHeader = "epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric\n";
const std::string kRows =
    "1,10,train,2.5,2.2,0.3,0.2,0.001,1,900,1,\n"
    "1,20,train,1.8,1.6,0.2,0.4,0.0005,1,950,2,\n"
    "1,20,valid,1.5,1.5,,0.5,,,,2,\n";

TEST_CASE("curves: a picture and a script that draws it again") {
  if (!has_program("gnuplot")) return;
  Scratch scratch;
  const std::string run = scratch.folder("it's a run"), png = run + "/curves.png";
  write_file(run + "/metrics.csv", kHeader + kRows);
  write_file(run + "/plain.csv", kHeader + "1,10,train,2.5,2.5,,0.2,,0,,1,\n");
  REQUIRE(
      draw_curves({{"R-Drop's", run + "/metrics.csv"}, {"plain", run + "/plain.csv"}}, png, "α = 1, it's_x"));
  const PngInfo first = read_png_info(png);
  CHECK(first.width == 1400);
  CHECK(first.height == 1050);
  std::filesystem::remove(png);
  const ProcessResult again = run_process({"gnuplot", "curves.gp"}, run);
  CHECK(again.status == 0);
  CHECK(again.output == "");  // no warning
  CHECK(read_png_info(png).width == 1400);
}

StepCurve::Numbers numbers(double loss, double kl) { return {loss, loss - kl, kl, NAN, 0.1, 100}; }

TEST_CASE("curves: thinned steps are means of as many as it takes, and skip what is not there") {
  StepCurve curve;
  for (int64_t step = 1; step <= 12345; ++step)
    curve.add(step, numbers(static_cast<double>(step), step % 50 == 0 ? 0.5 : NAN));
  const auto& points = curve.points();
  CHECK(points.size() <= 500);
  CHECK(points.size() >= 250);
  CHECK(points.back().step == 12345);
  double sum = 0, kl = 0;
  int64_t steps = 0, with_kl = 0;
  for (const StepCurve::Point& point : points) {
    sum += point.means[StepCurve::loss] * static_cast<double>(point.steps), steps += point.steps;
    if (point.counts[StepCurve::kl] > 0) kl += point.means[StepCurve::kl], ++with_kl;
    CHECK(std::isnan(point.means[StepCurve::accuracy]));
  }
  CHECK(steps == 12345);
  CHECK(sum == doctest::Approx(12345.0 * 12346 / 2));
  CHECK(kl == doctest::Approx(0.5 * static_cast<double>(with_kl)));
}

TEST_CASE("curves: steps.jsonl up to a step, or to damage") {
  Scratch scratch;
  const std::string file = scratch.file("steps.jsonl");
  write_file(file,
             "{\"step\":1,\"split\":\"train\",\"loss\":2.5,\"ce\":2,\"kl\":1}\n"
             "{\"step\":1,\"split\":\"valid\",\"ce\":9}\n"
             "{\"step\":2,\"split\":\"train\",\"loss\":1.5,\"ce\":1}\n"
             "{\"step\":3,\"split\":\"train\",\"loss\":1.0}\n{\"step\":4,\"spl");
  StepCurve two, all, none;
  two.read(file, 2), all.read(file, 100), none.read(scratch.file("missing"), 100);
  REQUIRE(two.points().size() == 2);
  CHECK(two.points()[1].means[StepCurve::loss] == 1.5);
  CHECK(std::isnan(two.points()[1].means[StepCurve::kl]));
  CHECK(all.points().size() == 3);
  CHECK(none.points().empty());
}

TEST_CASE("curves: what has no numbers gets no panel, and the best validation is marked") {
  Scratch scratch;
  const auto script = [&](const std::string& rows, StepCurve steps = {}, std::optional<int64_t> best = {}) {
    if (!rows.empty()) write_file(scratch.file("metrics.csv"), kHeader + rows);
    draw_curves({{"run", rows.empty() ? "" : scratch.file("metrics.csv"), steps, best}},
                scratch.file("a.png"), "");
    return bytes_of(scratch.file("a.gp"));
  };
  const std::string all = script(kRows, {}, 20);
  for (const char* panel : {"Cross-entropy", "KL between", "Accuracy", "Learning rate", "best validation"})
    CHECK_MESSAGE(contains(all, panel), panel);
  CHECK(contains(all, "set arrow from first 20,graph 0"));
  CHECK(contains(all, "set xrange [0:20.4]"));  // beyond the last point
  const std::string plain = script("1,10,train,2,2,0,,,,,1,\n1,10,valid,1.5,1.5,,,,,,2,\n");
  CHECK(contains(plain, "Cross-entropy"));
  CHECK(contains(plain, "(10 an epoch)"));
  for (const char* panel : {"KL between", "Accuracy", "Learning rate", "no values", "best validation"})
    CHECK_MESSAGE(!contains(plain, panel), panel);
  StepCurve steps;
  for (int64_t step = 1; step <= 7; ++step) steps.add(step, numbers(3, 0.25));
  const std::string unfinished = script("", steps);  // of an epoch that has not ended
  CHECK(contains(unfinished, "set xrange [0:7.14]"));
  CHECK(contains(unfinished, "KL between"));
  CHECK_FALSE(contains(unfinished, "title 'valid'"));
}

TEST_CASE("curves: drawn again while training goes on, and when it is interrupted") {
  if (!has_program("gnuplot")) return;
  Scratch scratch;
  const std::string half = scratch.folder("plain"), script = scratch.file("curves.gp");
  const auto step = [](int64_t number) {
    return nn::Metrics{
        .step = number, .loss = 2, .ce = 1.5, .kl = 0.5, .accuracy = -1, .lr = 0.1, .samples_per_second = 9};
  };
  using namespace std::chrono_literals;
  {
    command::LiveCurves never(scratch.path(), "");  // at its usual pace
    never.begin("plain", half);
    for (int64_t i = 1; i <= 9; ++i) never.step(step(i));
  }
  CHECK_FALSE(std::filesystem::exists(script));
  command::LiveCurves curves(scratch.path(), "", {.at_most = 0ms, .after_validation = 0ms});
  curves.begin("plain", half);
  curves.step(step(1));  // no file of the run is there yet
  for (int i = 0; i < 200 && !std::filesystem::exists(scratch.file("curves.png")); ++i)
    std::this_thread::sleep_for(50ms);
  CHECK(read_png_info(scratch.file("curves.png")).width == 1400);
  CHECK(contains(bytes_of(script), "(going on)"));
  for (int64_t i = 2; i <= 9; ++i) curves.step(step(i));
  write_file(half + "/metrics.csv", kHeader + "1,9,train,2,1.5,0.5,,0.1,1,9,1,\n1,9,valid,1,1,,,,,,1,\n");
  curves.validated({.train = {step(9)}, .valid = {step(9)}});
  curves.draw_interrupted();
  const std::string last = bytes_of(script);
  CHECK(contains(last, "(interrupted)"));
  CHECK(contains(last, "set arrow from first 9,graph 0"));
  CHECK(contains(last, "set xrange [0:9.18]"));
  curves.draw();
  CHECK_FALSE(contains(bytes_of(script), "(interrupted)"));
}

TEST_CASE("curves: what fails while training goes on ends no training") {
  if (!has_program("gnuplot")) return;
  Scratch scratch;
  const std::string gone = scratch.folder("gone");
  using namespace std::chrono_literals;
  command::LiveCurves curves(gone, "", {.at_most = 0ms, .after_validation = 0ms});
  curves.begin("run", scratch.path());
  std::filesystem::remove(gone);
  for (int64_t i = 1; i <= 3; ++i) curves.step({.step = i, .loss = 1, .ce = 1});
  curves.draw_interrupted();
  CHECK_THROWS_AS(curves.draw(), IoError);  // at the end it is an error
}

TEST_CASE("curves: no step yet, no KL") {
  if (!has_program("gnuplot")) return;
  Scratch scratch;
  write_file(scratch.file("metrics.csv"), kHeader);
  CHECK(draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"), "empty"));
  write_file(scratch.file("metrics.csv"), kHeader + "0,0,valid,0,0,,0,,,,0,\n");
  CHECK(draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"),
                    "one point, all zero"));
  write_file(
      scratch.file("metrics.csv"),
      kHeader + "1,9,valid,1.0986121,1.0986121,,0.5,,,,0,\n2,18,valid,1.0986122,1.0986122,,0.5,,,,0,\n");
  CHECK(draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"), "nearly equal"));
}

TEST_CASE("curves: without gnuplot it says so") {
  Scratch scratch;
  write_file(scratch.file("metrics.csv"), kHeader + kRows);
  const std::string path = std::getenv("PATH");
  setenv("PATH", scratch.path().c_str(), 1);
  const bool drawn = draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"), "");
  setenv("PATH", path.c_str(), 1);
  CHECK(!drawn);
  CHECK(!std::filesystem::exists(scratch.file("a.png")));
}

TEST_CASE("curves: half a picture, of a disk that is full, does not replace a whole one") {
  Scratch scratch;
  write_file(scratch.file("metrics.csv"), kHeader + kRows);
  write_png(scratch.file("a.png"), {1, 1, 2, {7, 8}});
  const std::string before = bytes_of(scratch.file("a.png"));
  // A gnuplot that says that all went well.
  const std::string bin = scratch.folder("bin"), path = std::getenv("PATH");
  put(bin + "/gnuplot", "#!/bin/sh\npicture=${2#picture = \\'}\nhead -c 50 '" + scratch.file("a.png") +
                            "' > \"${picture%\\'}\"\n");
  std::filesystem::permissions(bin + "/gnuplot", std::filesystem::perms::owner_all);
  setenv("PATH", (bin + ":" + path).c_str(), 1);
  const std::string message = message_of<IoError>([&] {
    draw_curves({{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"), "");
  });
  setenv("PATH", path.c_str(), 1);
  CHECK_MESSAGE(contains(message, "/a.png: "), message);
  CHECK(contains(message, "read_png"));
  CHECK(bytes_of(scratch.file("a.png")) == before);
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) == 4);  // and the script
}

TEST_CASE("curves: metrics that cannot be read") {
  Scratch scratch;
  const std::string csv = scratch.file("metrics.csv");
  const auto error = [&] {
    return message_of<IoError>([&] { draw_curves({CurveRun{"run", csv}}, scratch.file("a.png"), ""); });
  };
  CHECK(contains(error(), csv + ": there is no such file"));
  write_file(csv, "epoch,step\n");
  CHECK(contains(error(), csv + ": line 1: expected one column split"));
  write_file(csv, kHeader + kRows + "1,2\n");
  CHECK(contains(error(), csv + ": line 5: 2 fields, expected 12"));
  write_file(csv, kHeader + "1,10,train,much,2,0,0,0,0,0,0,\n");
  CHECK(contains(error(), csv + ": line 2: loss is much, expected a number"));
  write_file(csv, kHeader + "1,10,test,2,2,0,0,0,0,0,0,\n");
  CHECK(contains(error(), csv + ": line 2: split is test, expected train or valid"));
  CHECK(!std::filesystem::exists(scratch.file("a.gp")));
}

}  // namespace
}  // namespace tandem::data
