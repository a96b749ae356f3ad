#include "tools/tandem/live_curves.h"

#include <cmath>
#include <filesystem>

#include "autograd/tell.h"
#include "nn/train/manifest.h"
#include "tools/corpora/process.h"
#include "tools/tandem/step_log.h"

namespace tandem::command {
LiveCurves::~LiveCurves() { wait(); }

void LiveCurves::begin(const std::string& name, const std::string& folder) {
  if (!parts_.empty()) wait(), draw_meanwhile("");  // as it ended
  parts_.push_back({.name = name, .folder = folder});
  drawn_ = Clock::now();
}

void LiveCurves::went_on_after(int64_t steps) {
  Part& part = parts_.back();
  part.steps = {};
  part.steps.read((std::filesystem::path(part.folder) / kStepsFile).string(), steps);
}

void LiveCurves::step(const nn::Metrics& now) {
  const double accuracy = now.accuracy >= 0 ? now.accuracy : NAN;
  if (!now.skipped)
    parts_.back().steps.add(now.step, {now.loss, now.ce, now.kl, accuracy, now.lr, now.samples_per_second});
  if (Clock::now() - drawn_ >= (is_validated_ ? pace_.after_validation : pace_.at_most))
    draw_meanwhile(" (going on)");
}

void LiveCurves::validated(const nn::FitResult& so_far) {
  parts_.back().best_step = so_far.best().step;
  is_validated_ = true;
}

std::optional<data::CurveRun> LiveCurves::curve_of(const Part& part) {
  const std::string metrics = part.folder + "/" + nn::kMetricsFile;
  const bool there = std::filesystem::exists(metrics);
  if (!there && part.steps.points().empty()) return {};
  return data::CurveRun{part.name, there ? metrics : "", part.steps, part.best_step};
}

// All trainings over each other, and the present one by itself.
std::vector<LiveCurves::Picture> LiveCurves::pictures() const {
  if (parts_.empty()) return {};
  Picture all{.folder = run_, .runs = {}}, own{.folder = parts_.back().folder, .runs = {}};
  for (const Part& part : parts_) {
    const std::optional<data::CurveRun> curve = curve_of(part);
    if (curve) all.runs.push_back(*curve);
    if (curve && &part == &parts_.back()) own.runs.push_back(*curve);
  }
  std::vector<Picture> pictures;
  if (own.folder != run_ && !own.runs.empty()) pictures.push_back(std::move(own));
  if (!all.runs.empty()) pictures.push_back(std::move(all));
  return pictures;
}

void LiveCurves::draw_meanwhile(const std::string& state) {
  const bool busy =
      drawing_.valid() && drawing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
  if (failed_ || busy) return;
  wait();
  drawn_ = Clock::now(), is_validated_ = false;
  if (failed_ || !data::has_program("gnuplot")) return;
  drawing_ = std::async(std::launch::async, [pictures = pictures(), metric = metric_, state] {
    for (const auto& [folder, runs] : pictures)
      data::draw_curves(runs, folder + "/curves.png", "Tandem: " + folder + state, metric);
  });
}

void LiveCurves::wait() {
  if (!drawing_.valid()) return;
  try {
    drawing_.get();
  } catch (const std::exception& error) {
    if (!failed_) tell("No curves are drawn while training goes on: {}", error.what());
    failed_ = true;
  }
}

void LiveCurves::draw() {
  wait();
  bool drawn = true;
  for (const auto& [folder, runs] : pictures())
    drawn = data::draw_curves(runs, folder + "/curves.png", "Tandem: " + folder, metric_);
  if (!drawn) tell("No curves were drawn: gnuplot is not installed (Debian: gnuplot-nox).");
}

void LiveCurves::draw_interrupted() {
  try {
    failed_ = true;  // what an interrupted gnuplot says
    wait();
    if (!data::has_program("gnuplot")) return;
    for (const auto& [folder, runs] : pictures())
      data::draw_curves(runs, folder + "/curves.png", "Tandem: " + folder + " (interrupted)", metric_);
  } catch (const std::exception& error) {
    tell("No curves were drawn: {}", error.what());
  }
}

}  // namespace tandem::command
