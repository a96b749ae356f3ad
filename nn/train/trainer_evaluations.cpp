// Validation within an epoch, and what is told of the epoch then.
#include <cmath>

#include "nn/train/trainer_state.h"

namespace tandem::nn {

// The means over the steps of the epoch that has begun.
Metrics Trainer::epoch_so_far() const {
  const EpochPart& part = state_->part;
  Metrics epoch = part.means;
  const std::vector<Metrics>& before =
      state_->result.train;  // in an epoch without a measurement: the last one's
  if (tells_kl() && part.kl_steps == 0 && !before.empty()) epoch.kl = before.back().kl;
  epoch.samples_per_second = static_cast<double>(part.samples) / epoch.seconds;
  return epoch;
}

// Within an epoch.
bool Trainer::evaluation_is_due() const {
  const std::vector<Metrics>& done = state_->result.valid;
  return options_.eval_steps > 0 && state_->part.batches > 0 && state_->step % options_.eval_steps == 0 &&
         (done.empty() || done.back().step != state_->step);
}

void Trainer::evaluate_within(const data::Dataset& valid) {
  save_validated(judge(epoch_so_far(), valid, false));
}

Metrics Trainer::evaluate_finite(const data::Dataset& valid) const {
  try {
    Metrics validated = evaluate(objective_, valid, options_.eval_batch_size, options_.ranks);
    validated.epoch = state_->epoch, validated.step = state_->step;
    check<NonFiniteError>(std::isfinite(validated.loss), "its loss is {}", validated.loss);
    return validated;
  } catch (const NonFiniteError& error) {
    raise<NonFiniteError>(
        "the validation after step {}, in epoch {}, is not finite: {}; nothing was saved of it", state_->step,
        state_->epoch + 1, error.what());
  }
}

}  // namespace tandem::nn
