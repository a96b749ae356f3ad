// What a trainer does when a step is not finite.
#include "nn/train/trainer_safety.h"

#include "autograd/tell.h"
#include "nn/train/recorded_steps.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer_state.h"

namespace tandem::nn {

StepResult Trainer::step(const std::vector<data::Batch>& micro_batches) {
  const Device device = objective_.module().device();
  const StepBatches batches = upload(objective_, device, micro_batches);
  backend(device).await_uploads();
  const StepOptions options = step_options();
  try {
    return finish(begin(batches));
  } catch (const NonFiniteError& error) {
    raise<NonFiniteError>("{}; its origin: {}", error.what(),
                          origin_of_non_finite(objective_, optimizer_, batches, options));
  }
}

Trainer::Attempt Trainer::attempt(const StepBatches& batches) {
  Attempt attempt{.options = step_options()};
  try {
    if (tells_kl() && state_->step % options_.measure_kl == 0 && batches.units > 0)
      attempt.kl = kl_between_passes(objective_, batches, attempt.options);
    attempt.update = begin(batches);
  } catch (const NonFiniteError& error) {
    attempt.failure = error.what();
  }
  return attempt;
}

// The step's numbers, or those of one that changed nothing, which are NaN.
StepResult Trainer::settle(const Attempt& attempt, const StepBatches& batches, const data::Indices& indices) {
  std::string failure = attempt.failure;
  if (failure.empty()) {
    try {
      const StepResult result = finish(attempt.update);
      state_->skipped_in_row = 0;
      return result;
    } catch (const NonFiniteError& error) {
      failure = error.what();
    }
  }
  return leave_out(failure, batches, indices);
}

StepResult Trainer::leave_out(const std::string& failure, const StepBatches& batches,
                              const data::Indices& indices) {
  const bool stops =
      options_.on_nan == OnNan::stop ||
      (options_.on_nan == OnNan::skip && state_->skipped_in_row >= kMostSkipped) ||
      (options_.on_nan == OnNan::back && (!state_->checkpoint || state_->gone_back_to == state_->checkpoint));
  if (stops || options_.on_nan == OnNan::back || !state_->told_of_skipping) {
    const std::string checkpoint =
        options_.run_dir.empty() || !state_->checkpoint
            ? "none"
            : fmt::format("{}/{}, after step {}", options_.run_dir, kLastFile, *state_->checkpoint);
    const std::string why = fmt::format(
        "step {} is not finite: {}; its origin: {}; its batch: {}; the last checkpoint: {}", state_->step + 1,
        failure, origin_of_non_finite(objective_, optimizer_, batches, step_options(), indices),
        list_of(indices), checkpoint);
    check<NonFiniteError>(!stops || options_.on_nan == OnNan::stop, "{}; {}", why,
                          options_.on_nan == OnNan::skip
                              ? fmt::format("on_nan: {} steps before it were skipped in a row", kMostSkipped)
                          : state_->checkpoint ? "on_nan: it has gone back to that checkpoint before"
                                               : "on_nan: there is no checkpoint to go back to");
    check<NonFiniteError>(!stops, "{}", why);
    tell("warning: {}; {}", why,
         options_.on_nan == OnNan::skip
             ? "it is skipped, as further ones will be (on_nan: skip)"
             : fmt::format("going back there, and on with step {}: the batches since then are left out "
                           "(on_nan: back)",
                           state_->step + 2));
    state_->told_of_skipping = true;
  }
  if (options_.on_nan == OnNan::back) {
    go_back();
  } else {
    ++state_->result.skipped, ++state_->skipped_in_row;
  }
  ++state_->step;
  return {.loss = NAN, .ce = NAN, .kl = NAN, .gradient_norm = NAN};
}

// To the weights of the last checkpoint, with which the run goes on where it is: had it made the steps since
// then again, they would have come to the same end.
void Trainer::go_back() {
  if (state_->writing.valid()) state_->writing.get();
  const int64_t step = state_->step;
  const double lr = optimizer_.lr();
  static_cast<RunState&>(*state_) =
      load_last(options_.run_dir, objective_.module(), optimizer_, ema(), identity_);
  optimizer_.set_lr(lr);
  if (recorded_)  // on the optimizer's state of before
    recorded_ = std::make_unique<RecordedSteps>(objective_, optimizer_, ema(), options_.clip_norm);
  const int64_t left_out = step - state_->step;  // and the one that is not finite
  state_->result.skipped += left_out + 1, state_->skipped_in_row = 1;
  state_->part.batches += left_out;
  state_->gone_back_to = state_->step;
  state_->step = step;
}

}  // namespace tandem::nn
