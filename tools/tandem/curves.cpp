#include "tools/tandem/curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
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

// Points of one curve.
struct Points {
  std::vector<std::pair<double, double>> all;  // by their steps

  void add(double step, double value) {
    if (std::isfinite(value)) all.emplace_back(step, value);
  }
  bool empty() const { return all.empty(); }
};

// What the files of a run hold, by split and column: "train ce".
class Run {
 public:
  Run(const CurveRun& run) : name_(run.name), best_step_(run.best_step) {
    if (!run.metrics.empty()) add_metrics(run.metrics);
    if (run.steps.points().empty()) return;
    for (size_t i = 0; i < StepCurve::kNames.size(); ++i) {
      Points& curve = curves_[std::string("train ") + StepCurve::kNames[i]] = {};
      for (const StepCurve::Point& point : run.steps.points()) curve.add(point.step, point.means[i]);
    }
  }

  const std::string& name() const { return name_; }
  const Points& curve(const std::string& split, const std::string& column) const {
    static const Points none;
    const auto found = curves_.find(split + " " + column);
    return found == curves_.end() ? none : found->second;
  }
  // There is more in the training loss than the cross-entropy.
  bool loss_differs() const { return curve("train", "loss").all != curve("train", "ce").all; }
  bool has_kl() const {
    const Points& kl = curve("train", "kl");
    return std::any_of(kl.all.begin(), kl.all.end(), [](const auto& point) { return point.second != 0; });
  }
  std::optional<int64_t> best_step() const { return best_step_; }
  double last_step() const {
    double last = 0;
    for (const auto& [name, curve] : curves_)
      for (const auto& [step, value] : curve.all) last = std::max(last, step);
    return last;
  }
  double epoch_steps() const { return epoch_steps_; }  // 0: not known

 private:
  void add_metrics(const std::string& file) {
    for (const MetricsRow& row : read_metrics("draw_curves", file)) {
      const auto step = row.values.find("step"), epoch = row.values.find("epoch");
      if (step == row.values.end()) continue;
      for (const auto& [column, value] : row.values)
        curves_[row.split + " " + column].add(step->second, value);
      const bool first = epoch != row.values.end() && epoch->second == 1;
      if (row.split == "train" && epoch_steps_ == 0 && first) epoch_steps_ = step->second;
    }
  }

  std::string name_;
  std::optional<int64_t> best_step_;
  std::map<std::string, Points> curves_;
  double epoch_steps_ = 0;
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
  double scale = 1;
  bool right = false;  // its axis
};

constexpr const char* kTrain = "lw 1.5 dt solid";
constexpr const char* kValid = "lw 2.5 dt solid";
constexpr const char* kTotal = "lw 1.5 dt (4,4)";
constexpr const char* kSpeed = "lw 1.5 dt (2,5)";
constexpr size_t kFew = 40;  // points that are drawn as such

// What an axis shows: all of the points, but for a beginning so high that the rest would be a line at the
// bottom.
struct Range {
  double low = 0, high = 1;

  explicit Range(std::vector<double> values, bool from_zero) {
    if (values.empty()) return;
    const double last = values.back();
    std::sort(values.begin(), values.end());
    const double most = values[static_cast<size_t>(0.97 * static_cast<double>(values.size() - 1))];
    low = values.front(), high = values.back();
    if (values.size() > kFew && high - low > 4 * (most - low) && most > low)
      high = std::max({low + 1.5 * (most - low), last, most});
    if (from_zero && low >= 0) low = 0;
    // At least what the six digits of a number tell apart.
    const double margin = std::max({0.06 * (high - low), (high > low ? 1e-3 : 0.1) * std::abs(high), 1e-6});
    high += margin;
    if (!from_zero || low != 0) low -= margin;
  }
};

class Script {
 public:
  Script(const std::vector<CurveRun>& runs, std::string metric) : metric_(std::move(metric)) {
    for (const CurveRun& run : runs) runs_.emplace_back(run);
    for (const Run& run : runs_) last_step_ = std::max(last_step_, run.last_step());
  }

  std::string text(const std::string& png_name, const std::string& title) {
    text_ = fmt::format(R"(# Draws the picture again:  gnuplot {}
if (!exists("picture")) picture = {}
set terminal pngcairo noenhanced size 1400,1050 font 'Sans,13' background '#ffffff'
set output picture
set encoding utf8
set grid lt 1 lc '#d0d0d0' lw 0.8
set border 3 lc '#555555'
set tics textcolor '#333333'
set multiplot
)",
                        gnuplot_string(fs::path(png_name).replace_extension(".gp").string()),
                        gnuplot_string(png_name));
    legend(title);
    const Style accuracy{"valid", "accuracy", kValid, 100};
    std::vector<Panel> panels{
        {"Cross-entropy and loss",
         true,
         {{"train", "loss", kTotal}, {"train", "ce", kTrain}, {"valid", "ce", kValid}}},
        {"KL between the passes (training)", true, {{"train", "kl", kTrain}}},
        metric_.empty() ? Panel{"Accuracy (%)", false, {{"train", "accuracy", kTrain, 100}, accuracy}}
                        : Panel{metric_, false, {{"valid", "metric", kValid}}},
        {"Learning rate (solid), samples per second (dotted, right)",
         true,
         {{"train", "lr", kTrain}, {"train", "samples_per_s", kSpeed, 1, true}}}};
    std::erase_if(panels, [&](const Panel& panel) {
      return std::none_of(panel.styles.begin(), panel.styles.end(),
                          [&](const Style& style) { return !runs_with(style).empty(); });
    });
    for (size_t i = 0; i < panels.size(); ++i) draw(panels[i], i, panels.size());
    if (panels.empty())
      text_ += "set label 2 'nothing yet' at screen 0.5,0.5 center\nplot [0:1] [0:1] NaN notitle\n";
    return text_ + "unset multiplot\nset output\n";
  }

 private:
  struct Panel {
    std::string title;
    bool from_zero;
    std::vector<Style> styles;
  };

  static std::string color(size_t run) { return kColors[run % kColors.size()]; }

  // By their numbers: those that have such a curve to show.
  std::vector<size_t> runs_with(const Style& style) const {
    std::vector<size_t> found;
    for (size_t i = 0; i < runs_.size(); ++i) {
      const Run& run = runs_[i];
      const std::string column = style.column;
      const bool shown = column == "kl" ? run.has_kl() : column != "loss" || run.loss_differs();
      if (shown && !run.curve(style.split, column).empty()) found.push_back(i);
    }
    return found;
  }

  // Rows above the panels: runs by colour (when several), kinds of curves by line. Drawn as empty plots, so
  // that no legend lies on a curve.
  void legend(const std::string& title) {
    text_ += fmt::format("\nset label 1 {} at screen 0.5,0.972 center font ',17'\n", gnuplot_string(title));
    std::vector<std::string> entries;
    for (size_t i = 0; i < runs_.size(); i++) {
      entries.push_back(
          fmt::format("NaN with lines lw 5 lc '{}' title {}", color(i), gnuplot_string(runs_[i].name())));
    }
    if (runs_.size() > 1) legend_row(0.935, entries);
    entries.clear();
    const auto add = [&](const std::string& look, const char* name) {
      entries.push_back(fmt::format("NaN with {} lc '#555555' title '{}'", look, name));
    };
    add(std::string("lines ") + kTrain, "train");
    if (any([](const Run& run) { return !run.curve("valid", "ce").empty(); }))
      add(std::string("linespoints pt 7 ps 0.9 ") + kValid, "valid");
    if (any([](const Run& run) { return run.loss_differs(); }))
      add(std::string("lines ") + kTotal, "train loss with KL term");
    if (any([](const Run& run) { return run.best_step().has_value(); }))
      add("points pt 6 ps 2.6 lw 2", "best validation");
    legend_row(0.905, entries);
  }

  template <class F> bool any(F holds) const { return std::any_of(runs_.begin(), runs_.end(), holds); }

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

  std::string block(const std::vector<std::pair<double, double>>& points, double scale) {
    const std::string name = fmt::format("$points{}", blocks_++);
    text_ += name + " << EOD\n";
    for (const auto& [step, value] : points) text_ += fmt::format("{:.12g} {:.6g}\n", step, scale * value);
    text_ += "EOD\n";
    return name;
  }

  // Two beside each other; what is left over is as wide as two.
  void draw(const Panel& panel, size_t place, size_t count) {
    const size_t rows = (count + 1) / 2, row = place / 2;
    const bool wide = place + 1 == count && count % 2 == 1;
    const double left = place % 2 == 0 ? 0.06 : 0.55, width = wide ? 0.88 : 0.39;
    const double height = rows == 1 ? 0.74 : 0.32, bottom = row + 1 == rows ? 0.09 : 0.53;
    const bool last_row = row + 1 == rows || (place + 2 >= count && !wide && count % 2 == 0);
    std::vector<std::string> curves;
    std::vector<double> values, right_values;
    std::string marks;
    for (const Style& style : panel.styles) {
      for (const size_t i : runs_with(style)) {
        const Points& points = runs_[i].curve(style.split, style.column);
        for (const auto& [step, value] : points.all)
          (style.right ? right_values : values).push_back(style.scale * value);
        const bool valid = std::string_view(style.split) == "valid";
        const char* with = valid                       ? "linespoints pt 7 ps 0.9"
                           : points.all.size() <= kFew ? "linespoints pt 7 ps 0.5"
                                                       : "lines";
        curves.push_back(fmt::format("{} using 1:2 {}with {} {} lc '{}' notitle",
                                     block(points.all, style.scale), style.right ? "axes x1y2 " : "", with,
                                     style.look, color(i)));
        if (!valid || !runs_[i].best_step()) continue;
        const auto best = static_cast<double>(*runs_[i].best_step());
        marks += fmt::format(
            "set arrow from first {0},graph 0 to first {0},graph 1 nohead lc '{1}' lw 1 dt (3,5)\n", best,
            color(i));
        const auto at = std::find_if(points.all.begin(), points.all.end(),
                                     [&](const auto& p) { return p.first == best; });
        if (at != points.all.end())
          curves.push_back(fmt::format("{} using 1:2 with points pt 6 ps 2.6 lw 2 lc '{}' notitle",
                                       block({*at}, style.scale), color(i)));
      }
    }
    const Range y(values, panel.from_zero), y2(right_values, true);
    const double steps = std::max(1.0, last_step_);
    text_ += fmt::format(
        "\nset lmargin at screen {}; set rmargin at screen {}; set bmargin at screen {}; set tmargin at "
        "screen {}\n"
        "unset key; set title {} offset 0,-0.4; set xlabel {}\n{}",
        left, left + width, bottom, bottom + height, gnuplot_string(panel.title),
        gnuplot_string(last_row ? step_label() : ""), marks);
    text_ += last_step_ < 10 ? "set xtics 1\n" : "set xtics autofreq\n";
    if (!right_values.empty())
      text_ += fmt::format("set border 11; set y2tics; set y2range [{:g}:{:g}]\n", y2.low, y2.high);
    text_ += fmt::format("set xrange [0:{:g}] noextend; plot [] [{:g}:{:g}] \\\n  {}\n", 1.02 * steps, y.low,
                         y.high, join(curves, ", \\\n  "));
    text_ += "unset arrow; unset y2tics; set border 3\n";
  }

  std::string step_label() const {
    const double steps = runs_.front().epoch_steps();
    return steps > 0 ? fmt::format("optimizer step ({:g} an epoch)", steps) : "optimizer step";
  }

  std::vector<Run> runs_;
  std::string metric_, text_;
  double last_step_ = 0;
  int blocks_ = 0;
};

}  // namespace

bool draw_curves(const std::vector<CurveRun>& runs, const std::string& png_file, const std::string& title,
                 const std::string& metric) {
  check<ValueError>(!runs.empty(), "draw_curves: no runs, expected at least one");
  const fs::path png = fs::absolute(png_file), folder = png.parent_path();
  const std::string name = png.filename().string();
  const std::string script_name = png.filename().replace_extension(".gp").string();
  write_file((folder / script_name).string(), Script(runs, metric).text(name, title));
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
