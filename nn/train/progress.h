// A live progress bar on standard error with a text, a rate and the time left. Draws nothing where standard
// error is not a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tandem::nn {

class Progress {
 public:
  // `label` stands in front, `unit` names what is counted.
  Progress(std::string label, int64_t total, std::string unit, bool shown = true);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` units, `text` after the bar, and the seconds left of the whole run. Draws at most ten
  // times a second, cut to the width of the window.
  void update(int64_t done, const std::string& text, double run_seconds_left);

  double seconds() const;           // since it began
  double units_per_second() const;  // since then

 private:
  std::string label_, unit_;
  int64_t total_, done_ = 0;
  bool drawn_ = false, shown_;
  std::chrono::steady_clock::time_point start_, last_;
};

// Columns of the terminal on standard error; SIZE_MAX without one.
size_t terminal_width();

// "1:23" or "1:02:03".
std::string clock_text(double seconds);

}  // namespace tandem::nn
