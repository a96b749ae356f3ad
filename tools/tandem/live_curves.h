// curves.png of a run folder, drawn again while training goes on.
#pragma once

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "nn/train/trainer.h"
#include "tools/tandem/curves.h"

namespace tandem::command {

// Every half a minute, sooner after a validation, and at the end. A thread waits for gnuplot, so that
// training does not; what fails meanwhile is told once, and no training ends for it.
class LiveCurves {
 public:
  // How long after the last picture there is another one. Drawing takes about a second of one core.
  struct Pace {
    std::chrono::milliseconds at_most{30'000}, after_validation{10'000};
  };
  // In the folder `run`, and of a training in a folder below it there, too; `metric` names what validation is
  // judged by, "" for accuracy or loss.
  LiveCurves(std::string run, std::string metric) : LiveCurves(std::move(run), std::move(metric), Pace()) {}
  LiveCurves(std::string run, std::string metric, Pace pace)
      : run_(std::move(run)), metric_(std::move(metric)), pace_(pace) {}
  ~LiveCurves();  // waits for the thread
  LiveCurves(const LiveCurves&) = delete;
  LiveCurves& operator=(const LiveCurves&) = delete;

  // The training of this name in this folder is the one that follows tell of.
  void begin(const std::string& name, const std::string& folder);
  void went_on_after(int64_t steps);  // of which its steps.jsonl tells
  void step(const nn::Metrics& now);
  void validated(const nn::FitResult& so_far);

  // At once. IoError as of draw_curves(); told where there is no gnuplot.
  void draw();
  // The same of a run that does not come to its end: an error is told.
  void draw_interrupted();

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {
    std::string name, folder;
    data::StepCurve steps = {};
    std::optional<int64_t> best_step = {};
  };
  struct Picture {
    std::string folder;
    std::vector<data::CurveRun> runs;
  };
  static std::optional<data::CurveRun> curve_of(const Part& part);
  std::vector<Picture> pictures() const;
  void draw_meanwhile(const std::string& state);
  void wait();

  std::string run_, metric_;
  Pace pace_;
  std::vector<Part> parts_;
  Clock::time_point drawn_ = Clock::now();
  bool is_validated_ = false, failed_ = false;
  std::future<void> drawing_;
};

}  // namespace tandem::command
