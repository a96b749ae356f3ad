#include "nn/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

#include "autograd/error.h"

namespace tandem::nn {
namespace {

constexpr std::string_view kNames[] = {"constant", "cosine", "inverse_sqrt", "step", "linear"};  // as Kind

}  // namespace

Schedule Schedule::parse(std::string_view name, const ScheduleOptions& options) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  check<ConfigError>(found != std::end(kNames),
                     "schedule: \"{}\" is unknown, expected constant, cosine, inverse_sqrt, step or linear",
                     name);
  Schedule schedule;
  schedule.kind_ = static_cast<Kind>(found - std::begin(kNames));
  schedule.options_ = options;
  const auto& [warmup, total, floor, step_size, gamma] = options;
  check<ConfigError>(warmup >= 0, "schedule {}: warmup is {}, expected at least 0", name, warmup);
  switch (schedule.kind_) {
    case Kind::constant:
      break;
    case Kind::inverse_sqrt:
      check<ConfigError>(warmup >= 1, "schedule {}: warmup is {}, expected at least 1", name, warmup);
      break;
    case Kind::step:
      check<ConfigError>(step_size >= 1, "schedule {}: step_size is {}, expected at least 1", name,
                         step_size);
      check<ConfigError>(gamma > 0 && gamma <= 1, "schedule {}: gamma is {}, expected 0 < gamma <= 1", name,
                         gamma);
      break;
    case Kind::cosine:
    case Kind::linear:
      check<ConfigError>(total > warmup,
                         "schedule {}: total is {}, expected more than the warmup of {} steps", name, total,
                         warmup);
      check<ConfigError>(floor >= 0 && floor <= 1, "schedule {}: floor is {}, expected 0 <= floor <= 1", name,
                         floor);
  }
  return schedule;
}

std::string_view Schedule::name() const { return kNames[static_cast<int>(kind_)]; }

double Schedule::operator()(int64_t step) const {
  check<ValueError>(step >= 1, "schedule {}: step is {}, steps count from 1", name(), step);
  const auto t = static_cast<double>(step), warmup = static_cast<double>(options_.warmup);
  const bool rising = step < options_.warmup;
  const double rise = rising ? t / warmup : 1;
  // From 0 at the end of the warm-up to 1 at `total`, for the schedules that have one.
  const double progress = std::min(1.0, (t - warmup) / (static_cast<double>(options_.total) - warmup));
  const double floor = options_.floor;
  switch (kind_) {
    case Kind::constant:
      return rise;
    case Kind::step:
      return rise * std::pow(options_.gamma, static_cast<double>((step - 1) / options_.step_size));
    case Kind::inverse_sqrt:
      return rising ? rise : std::sqrt(warmup / t);
    case Kind::cosine:
      return rising ? rise : floor + (1 - floor) * (1 + std::cos(std::numbers::pi * progress)) / 2;
    default:
      return rising ? rise : 1 - (1 - floor) * progress;
  }
}

}  // namespace tandem::nn
