#include "tools/tandem/curves.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>

#include "autograd/error.h"
#include "nn/data/png.h"
#include "nn/io/files.h"
#include "nn/io/text.h"
#include "tools/corpora/process.h"
#include "tools/tandem/metrics_file.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxBytes = int64_t{1} << 28;
// Okabe and Ito's palette, which the colour-blind can tell apart.
constexpr std::array kColors{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};

// Which curves a CSV can draw: gnuplot stops at a curve without a single point.
class Metrics {
 public:
  explicit Metrics(const std::string& file) {
    for (const MetricsRow& row : read_metrics("draw_curves", file)) {
      if (!row.values.contains("step")) continue;
      for (const auto& [column, value] : row.values) present_.insert(row.split + " " + column);
      const bool both = row.values.contains("loss") && row.values.contains("ce");
      loss_differs_ =
          loss_differs_ || (row.split == "train" && both && row.values.at("loss") != row.values.at("ce"));
    }
  }

  bool has(const std::string& split, const std::string& column) const {
    return present_.contains(split + " " + column);
  }
  bool loss_differs() const { return loss_differs_; }

 private:
  std::set<std::string> present_;  // "split column" with at least one number
  bool loss_differs_ = false;      // there is more in the training loss than the cross-entropy
};

std::string gnuplot_string(std::string_view text) {
  std::string result = "'";
  for (const char letter : text)
    result += letter == '\'' ? "''" : std::string(1, letter == '\n' ? ' ' : letter);
  return result + "'";
}

struct Style {
  const char* split;
  const char* column;
  const char* look;  // without its colour
  const char* scale = "";
  const char* axes = "";
};

constexpr const char* kTrain = "lines lw 1.5 dt solid";
constexpr const char* kValid = "linespoints lw 2.5 dt solid pt 7 ps 0.9";
constexpr const char* kTotal = "lines lw 1.5 dt (4,4)";
constexpr const char* kSpeed = "lines lw 1.5 dt (2,5)";

class Script {
 public:
  Script(const std::vector<CurveRun>& runs, const fs::path& folder) {
    for (const CurveRun& run : runs) {
      runs_.push_back({Metrics(run.metrics), fs::relative(run.metrics, folder).string(), run.name});
    }
  }

  std::string text(const std::string& png_name, const std::string& title, const std::string& metric) {
    text_ = fmt::format(R"(# Draws the picture again:  gnuplot {}
if (!exists("picture")) picture = {}
set terminal pngcairo noenhanced size 1400,1050 font 'Sans,13' background '#ffffff'
set output picture
set encoding utf8
set datafile separator comma
set datafile columnheaders
set datafile missing NaN
set grid lt 1 lc '#d0d0d0' lw 0.8
set border 3 lc '#555555'
set tics textcolor '#333333'
set multiplot
)",
                        gnuplot_string(fs::path(png_name).replace_extension(".gp").string()),
                        gnuplot_string(png_name));
    legend(title);
    panel(0, "Cross-entropy and loss", "[0:*]",
          {{"train", "ce", kTrain}, {"valid", "ce", kValid}, {"train", "loss", kTotal}});
    panel(1, "KL between the passes (training)", "[0:*]", {{"train", "kl", kTrain}});
    if (metric.empty()) {
      panel(2, "Accuracy (%)", "[*:*]",
            {{"train", "accuracy", kTrain, "100*"}, {"valid", "accuracy", kValid, "100*"}});
    } else {
      panel(2, metric, "[*:*]", {{"valid", "metric", kValid}});
    }
    panel(3, "Learning rate (solid), samples per second (dotted, right)", "[0:*]",
          {{"train", "lr", kTrain}, {"train", "samples_per_s", kSpeed, "", "axes x1y2 "}});
    return text_ + "unset multiplot\nset output\n";
  }

 private:
  struct Run {
    Metrics metrics;
    std::string file, name;
  };

  static std::string color(size_t run) { return kColors[run % kColors.size()]; }

  // Rows above the panels: runs by colour (when several), kinds of curves by line. Drawn as empty plots, so
  // that no legend lies on a curve.
  void legend(const std::string& title) {
    text_ += fmt::format("\nset label 1 {} at screen 0.5,0.972 center font ',17'\n", gnuplot_string(title));
    std::vector<std::string> entries;
    for (size_t i = 0; i < runs_.size(); i++) {
      entries.push_back(
          fmt::format("NaN with lines lw 5 lc '{}' title {}", color(i), gnuplot_string(runs_[i].name)));
    }
    if (runs_.size() > 1) legend_row(0.935, entries);
    entries.clear();
    const auto add = [&](const char* look, const char* name) {
      entries.push_back(fmt::format("NaN with {} lc '#555555' title '{}'", look, name));
    };
    add(kTrain, "train");
    add(kValid, "valid");
    if (std::any_of(runs_.begin(), runs_.end(), [](const Run& run) { return run.metrics.loss_differs(); }))
      add(kTotal, "train loss with KL term");
    legend_row(0.905, entries);
  }

  void legend_row(double height, const std::vector<std::string>& entries) {
    text_ += fmt::format(
        "set key at screen 0.5,{} center center horizontal Left reverse maxrows 1 samplen 3 width -1 "
        "textcolor '#333333'\n"
        "set lmargin at screen 0; set rmargin at screen 1; set bmargin at screen 0.9; set tmargin at screen "
        "1\n"
        "unset border; unset tics\n"
        "plot [0:1] [0:1] {}\n"
        "set border 3; set xtics nomirror; set ytics nomirror\n"
        "unset label 1\n",
        height, join(entries, ", "));
  }

  void panel(int place, const std::string& title, const char* range, std::initializer_list<Style> styles) {
    const double left = place % 2 == 0 ? 0.06 : 0.55, bottom = place < 2 ? 0.52 : 0.07;
    text_ += fmt::format(
        "\nset lmargin at screen {}; set rmargin at screen {}; set bmargin at screen {}; set tmargin at "
        "screen {}\n"
        "unset key; set title {} offset 0,-0.4; set xlabel {}\n",
        left, left + 0.39, bottom, bottom + 0.32, gnuplot_string(title),
        gnuplot_string(place < 2 ? "" : "optimizer step"));
    std::vector<std::string> curves;
    bool right_axis = false;
    for (const Style& style : styles) {
      for (size_t i = 0; i < runs_.size(); i++) {
        const Run& run = runs_[i];
        if (!run.metrics.has(style.split, style.column)) continue;
        if (std::string_view(style.column) == "loss" && !run.metrics.loss_differs()) continue;
        right_axis = right_axis || *style.axes != '\0';
        curves.push_back(fmt::format(
            "{} using (column('step')):(strcol('split') eq '{}' ? {}column('{}') : NaN) {}with {} lc '{}' "
            "notitle",
            gnuplot_string(run.file), style.split, style.scale, style.column, style.axes, style.look,
            color(i)));
      }
    }
    if (curves.empty()) {
      text_ += "set label 2 'no values' at graph 0.5,0.5 center textcolor '#777777'\n";
      text_ += "plot [0:1] [0:1] NaN notitle\nunset label 2\n";
      return;
    }
    if (right_axis) text_ += "set border 11; set y2tics; set y2range [0:*]\n";
    text_ += fmt::format("set xrange [0:*] noextend; plot [] {} \\\n  {}\n", range, join(curves, ", \\\n  "));
  }

  std::vector<Run> runs_;
  std::string text_;
};

}  // namespace

bool draw_curves(const std::vector<CurveRun>& runs, const std::string& png_file, const std::string& title,
                 const std::string& metric) {
  check<ValueError>(!runs.empty(), "draw_curves: no runs, expected at least one");
  const fs::path png = fs::absolute(png_file), folder = png.parent_path();
  const std::string name = png.filename().string();
  const std::string script_name = png.filename().replace_extension(".gp").string();
  write_file((folder / script_name).string(), Script(runs, folder).text(name, title, metric));
  if (!has_program("gnuplot")) return false;

  // Drawn elsewhere, and read as a whole before it takes the old one's place: gnuplot does not say when a
  // disk is full.
  const TemporaryFolder drawn(fs::temp_directory_path().string());
  const std::string picture = drawn.path() + "/" + name;
  const ProcessResult result =
      run_process({"gnuplot", "-e", "picture = " + gnuplot_string(picture), script_name}, folder.string());
  check<IoError>(result.status == 0, "draw_curves: {}: gnuplot failed (status {}): {}",
                 (folder / script_name).string(), result.status, result.output);
  read_png(picture, PngColor::kRgb);
  write_file(png.string(), read_file("draw_curves", picture, kMaxBytes));
  return true;
}

}  // namespace tandem::data
