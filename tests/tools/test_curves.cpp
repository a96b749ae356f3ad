#include <cstdlib>

#include "nn/data/png.h"
#include "tests/files.h"
#include "tools/corpora/process.h"
#include "tools/tandem/curves.h"

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

TEST_CASE("curves: no step yet, no KL") {
  if (!has_program("gnuplot")) return;
  Scratch scratch;
  write_file(scratch.file("metrics.csv"), kHeader);
  CHECK(draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"), "empty"));
  write_file(scratch.file("metrics.csv"), kHeader + "0,0,valid,0,0,,0,,,,0,\n");
  CHECK(draw_curves({CurveRun{"run", scratch.file("metrics.csv")}}, scratch.file("a.png"),
                    "one point, all zero"));
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
