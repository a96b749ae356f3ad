// A live progress bar on standard error with a text, a rate and the time left. Draws nothing where standard
// error is not a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tandem::nn {

class Progress {
 public:
  // `label` stands in front, `unit` names what is counted; `done` are done already.
  Progress(std::string label, int64_t total, std::string unit, bool shown = true, int64_t done = 0);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` units, `text` after the bar, and the seconds left of the whole run. Draws at most ten
  // times a second, cut to the width of the window.
  void update(int64_t done, const std::string& text, double run_seconds_left);

  void clear();  // until the next update: for a line of text

  double seconds() const;           // since it began
  double units_per_second() const;  // since then

 private:
  std::string label_, unit_;
  int64_t total_, before_, done_;
  bool drawn_ = false, shown_;
  std::chrono::steady_clock::time_point start_, last_;
};

// How long steps wait for their batches. On the CPU that is all the time that making them takes; on a device
// only what the device had nothing to do in: where its step was done before the next batch was there.
class DataWait {
 public:
  explicit DataWait(bool on_cpu) : on_cpu_(on_cpu) {}
  void loads();                                // a batch is wanted
  void loaded();                               // it is there
  void finished();                             // the device's step is done, which was waited for from then on
  double seconds() const { return seconds_; }  // of all steps so far
  // For the bar: " data 12%", or "" where it is hardly any of that time.
  std::string text(double of_seconds) const;

 private:
  bool on_cpu_;
  std::chrono::steady_clock::time_point start_ = {}, end_ = {};
  double load_ = 0, seconds_ = 0;
};

// Columns of the terminal on standard error; SIZE_MAX without one.
size_t terminal_width();

// "1:23" or "1:02:03".
std::string clock_text(double seconds);

}  // namespace tandem::nn
