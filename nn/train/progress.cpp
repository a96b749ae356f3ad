#include "nn/train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tandem::nn {
namespace {

using Clock = std::chrono::steady_clock;

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 100;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

Progress::Progress(std::string label, int64_t total, std::string unit, bool shown)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      shown_(shown && isatty(STDERR_FILENO)),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[2K");
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
double Progress::units_per_second() const { return seconds() > 0 ? done_ / seconds() : 0; }

void Progress::update(int64_t done, const std::string& text) {
  done_ = done;
  if (!shown_ || Clock::now() - last_ < std::chrono::milliseconds(100)) return;
  last_ = Clock::now();
  constexpr int kCells = 20;
  const int filled = static_cast<int>(kCells * done_ / total_);
  const double rate = units_per_second();
  std::string line = label_ + " ";
  for (int i = 0; i < kCells; ++i) line += i < filled ? "█" : "░";
  line += fmt::format(" {:3}%  {} left  {}  {:.0f} {}/s", 100 * done_ / total_,
                      clock_text(rate > 0 ? (total_ - done_) / rate : 0), text, rate, unit_);
  // Cut to the window in characters, not bytes: a wrapped line could not be drawn over.
  size_t columns = 0, end = 0;
  for (const size_t width = terminal_width(); end < line.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(line[end]) & 0xC0) != 0x80;
    if (starts_character && columns++ == width) break;
  }
  fmt::print(stderr, "\r\x1b[2K{}", line.substr(0, end));
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace tandem::nn
