#include "nn/train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "autograd/tell.h"

namespace tandem::nn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : SIZE_MAX;
}

std::string clock_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

void DataWait::loads() { start_ = Clock::now(); }

void DataWait::loaded() {
  end_ = Clock::now(), load_ = seconds_between(start_, end_);
  if (on_cpu_) seconds_ += load_;
}

void DataWait::finished() {
  constexpr double kAtOnce = 1e-4;  // seconds
  if (!on_cpu_ && seconds_between(end_, Clock::now()) < kAtOnce) seconds_ += load_;
}

std::string DataWait::text(double of_seconds) const {
  const double share = seconds_ / of_seconds;
  return share > 0.005 ? fmt::format(" data {:.0f}%", 100 * share) : "";
}

Progress::Progress(std::string label, int64_t total, std::string unit, bool shown, int64_t done)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      before_(done),
      done_(done),
      shown_(shown && isatty(STDERR_FILENO)),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) std::fputs("\r\x1b[2K", stderr);  // what cannot be written is lost (autograd/tell.h)
  drawn_ = false;
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
double Progress::units_per_second() const { return seconds() > 0 ? (done_ - before_) / seconds() : 0; }

void Progress::update(int64_t done, const std::string& text, double run_seconds_left) {
  done_ = done;
  if (!shown_ || Clock::now() - last_ < std::chrono::milliseconds(100)) return;
  last_ = Clock::now();
  const double rate = units_per_second();
  const std::string left = clock_text(rate > 0 ? (total_ - done_) / rate : 0);
  const size_t width = terminal_width();
  const std::string run_left = clock_text(run_seconds_left);
  auto compose = [&](size_t cells) {
    std::string line = label_ + " ";
    const size_t filled = cells * done_ / total_;
    for (size_t i = 0; i < cells; ++i) line += i < filled ? "█" : "░";
    return line + fmt::format("{:3}%  {}  {:.0f} {}/s  {} left, {} of the run", 100 * done_ / total_, text,
                              rate, unit_, left, run_left);
  };
  // Narrow windows lose the bar first, then what follows from the rest.
  std::string line = compose(0);
  if (line.size() >= width) {
    line = fmt::format("{} {} {:.0f}/s {} left", label_, text, rate, run_left);
  } else if (line.size() + 8 < width) {
    line = compose(std::min<size_t>(20, width - line.size() - 1));
  }
  // Cut to the window in characters, not bytes: a wrapped line could not be drawn over.
  size_t columns = 0, end = 0;
  for (; end < line.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(line[end]) & 0xC0) != 0x80;
    if (starts_character && columns++ == width) break;
  }
  std::fputs(("\r\x1b[2K" + printable(line.substr(0, end))).c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace tandem::nn
