#include "autograd/profiler.h"

#include <algorithm>

#include "autograd/thread_scope.h"

namespace tandem {
namespace {

thread_local Profiler* active = nullptr;

constexpr size_t kMostTimed = 4096;  // marks are resources of the device

int64_t bytes_of(const Tensor& x) { return x.defined() ? x.numel() * x.passes() * size_of(x.dtype()) : 0; }

}  // namespace

Profiler::Profiler(Device device) : backend_(backend(device)), outer_(active) { active = this; }
Profiler::~Profiler() { close_scope(active, this, &Profiler::outer_, "Profiler"); }
Profiler* Profiler::current() { return active; }

void Profiler::settle() const {
  for (const Timed& run : timed_) run.row->seconds += run.end->seconds_since(*run.start);
  timed_.clear();
}

const std::map<std::string, Profiler::Row>& Profiler::rows() const {
  settle();
  return rows_;
}

std::string Profiler::table() const {
  settle();
  std::vector<std::pair<std::string, Row>> rows(rows_.begin(), rows_.end());
  std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.seconds > b.second.seconds; });
  double total = 0;
  for (auto& [name, row] : rows) total += row.seconds;
  std::string text =
      fmt::format("{:<36} {:>8} {:>11} {:>6} {:>11} {:>8}\n", "op", "calls", "ms", "%", "MB", "GB/s");
  for (auto& [name, row] : rows) {
    text += fmt::format("{:<36} {:>8} {:>11.2f} {:>6.1f} {:>11.1f} {:>8.1f}\n", name, row.calls,
                        row.seconds * 1e3, total > 0 ? 100 * row.seconds / total : 0, row.bytes / 1e6,
                        row.seconds > 0 ? row.bytes / row.seconds / 1e9 : 0);
  }
  return text;
}

void ProfileScope::start(const char* op, bool backward) {
  if (profiler_->timed_.size() >= kMostTimed) profiler_->settle();
  row_ = &profiler_->rows_[backward ? std::string(op) + " (backward)" : op];
  start_ = profiler_->backend_.mark();
}

void ProfileScope::stop() noexcept {
  ++row_->calls;
  if (!start_) return;  // part of a recording
  try {
    if (auto end = profiler_->backend_.mark())
      profiler_->timed_.push_back({row_, std::move(start_), std::move(end)});
  } catch (const Error&) {  // of a device that has failed: whoever asks it next is told
  }
}

void ProfileScope::add_bytes(const Tensors& inputs, const Tensor& output) {
  for (const Tensor& x : inputs) row_->bytes += bytes_of(x);
  row_->bytes += bytes_of(output);
}

}  // namespace tandem
