// Learning rate schedules: pure functions of the optimizer step (counted from 1) to a factor of the rate.
// Example:
//
//   const auto schedule = nn::Schedule::cosine(/*warmup=*/500, /*total=*/10000);
//   nn::Step step(model, optimizer, {.schedule = schedule});   // in a loop: of this step's number
//   step.skip();
//   nn::Trainer trainer{model, optimizer, {.schedule = schedule}};
//
// Nothing counts calls: a step that goes on from a checkpoint has the rate it would have had.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem::nn {

// What Schedule::parse() takes; each kind reads its own.
struct ScheduleOptions {
  int64_t warmup = 0;     // steps over which the factor rises to 1 as step / warmup
  int64_t total = 0;      // cosine, linear: the step at which the floor is reached
  double floor = 0;       // cosine, linear: the last factor, in [0, 1]
  int64_t step_size = 0;  // step: steps between two decays
  double gamma = 0.1;     // step: the factor of one decay, in (0, 1]
};

// ConfigError for an option that is out of range or, as `total` for cosine, missing.
class Schedule {
 public:
  Schedule() = default;  // constant
  // By name: constant, cosine, inverse_sqrt, step, linear.
  static Schedule parse(std::string_view name, const ScheduleOptions& options = {});

  // 1 after warm-up.
  static Schedule constant(int64_t warmup = 0) { return parse("constant", {.warmup = warmup}); }
  // After warm-up: floor + (1 - floor) * (1 + cos(pi * (t - warmup) / (total - warmup))) / 2, and the floor
  // from `total` on (Loshchilov, Hutter, arXiv 1608.03983, without restarts).
  static Schedule cosine(int64_t warmup, int64_t total, double floor = 0) {
    return parse("cosine", {.warmup = warmup, .total = total, .floor = floor});
  }
  // min(t / warmup, sqrt(warmup / t)); warmup >= 1 (Vaswani et al., arXiv 1706.03762).
  static Schedule inverse_sqrt(int64_t warmup) { return parse("inverse_sqrt", {.warmup = warmup}); }
  // gamma^floor((t - 1) / step_size), times the warm-up's t / warmup.
  static Schedule step(int64_t step_size, double gamma = 0.1, int64_t warmup = 0) {
    return parse("step", {.warmup = warmup, .step_size = step_size, .gamma = gamma});
  }
  // After warm-up a straight line from 1 to the floor at `total`.
  static Schedule linear(int64_t warmup, int64_t total, double floor = 0) {
    return parse("linear", {.warmup = warmup, .total = total, .floor = floor});
  }

  double operator()(int64_t step) const;                       // ValueError for a step below 1
  std::string_view name() const;                               // as parse() takes it
  const ScheduleOptions& options() const { return options_; }  // the same

 private:
  enum class Kind { constant, cosine, inverse_sqrt, step, linear };
  Kind kind_ = Kind::constant;
  ScheduleOptions options_;
};

}  // namespace tandem::nn
