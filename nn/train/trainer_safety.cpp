// What a trainer does when a step is not finite, or has no memory.
#include "nn/train/trainer_safety.h"

#include <new>

#include "autograd/tell.h"
#include "nn/train/recorded_steps.h"
#include "nn/train/run_folder.h"
#include "nn/train/step.h"
#include "nn/train/trainer_state.h"

namespace tandem::nn {

StepResult Trainer::step(const std::vector<data::Batch>& micro_batches) {
  check<ConfigError>(!options_.ranks, "step: with ranks, fit() makes the steps, of which each has its share");
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

// NaN where it is not finite: the step may be, all the same.
double Trainer::measured_kl(const StepBatches& batches) {
  double kl = NAN;
  try {
    kl = kl_between_passes(objective_, batches, step_options());
  } catch (const NonFiniteError&) {
    if (options_.ranks) throw;
  }
  if (options_.ranks) options_.ranks->sum({&kl, 1});
  return kl;
}

Trainer::Attempt Trainer::attempt(const StepBatches& batches, const data::Dataset& train,
                                  const data::Indices& indices) {
  Attempt attempt{.options = step_options()};
  std::string no_memory;
  try {
    if (tells_kl() && state_->step % options_.measure_kl == 0 && batches.units > 0)
      attempt.kl = measured_kl(batches);
    attempt.update = begin(batches);
  } catch (const NonFiniteError& error) {
    if (options_.ranks) throw;  // within a forward: the others wait for it, and end with this one
    attempt.failure = error.what();
  } catch (const OutOfMemoryError& error) {
    no_memory = error.what();
  } catch (const std::bad_alloc&) {
    no_memory = "out of memory on the host";
  }
  if (no_memory.empty()) return attempt;
  raise<OutOfMemoryError>("step {}: {}; its plan: {}, accumulate: {}; {}", state_->step + 1, no_memory,
                          name_of(options_.plan), options_.accumulate,
                          options_.ranks ? "what fits, one process would try" : what_fits(train, indices));
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

// With ranks: what the first of them says that has found it in its part of the batch.
std::string Trainer::origin(const StepBatches& batches, const data::Indices& indices) const {
  if (options_.ranks) options_.ranks->is_at(Ranks::Work::other, state_->step);
  const std::string own = origin_of_non_finite(objective_, optimizer_, batches, step_options(), indices);
  if (!options_.ranks) return own;
  const std::vector<std::string> all = options_.ranks->gather(own);
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (!all[rank].starts_with("unknown")) return fmt::format("on rank {}, {}", rank, all[rank]);
  return own;
}

void Trainer::record_anew() {
  if (recorded_)
    recorded_ = std::make_unique<RecordedSteps>(objective_, optimizer_, ema(), options_.clip_norm);
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
    const std::string why =
        fmt::format("step {} is not finite: {}; its origin: {}; its batch: {}; the last checkpoint: {}",
                    state_->step + 1, failure, origin(batches, indices), list_of(indices), checkpoint);
    check<NonFiniteError>(!stops || options_.on_nan == OnNan::stop, "{}; {}", why,
                          options_.on_nan == OnNan::skip
                              ? fmt::format("on_nan: {} steps before it were skipped in a row", kMostSkipped)
                          : state_->checkpoint
                              ? "on_nan: it was gone back to before, and none was written since"
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
  record_anew();  // the step may have been the first of its shape, and the optimizer's state may be another
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
  double written = 1;  // by the first rank
  if (options_.ranks) options_.ranks->sum({&written, 1});
  const int64_t step = state_->step;
  const double lr = optimizer_.lr();
  static_cast<RunState&>(*state_) =
      load_last(options_.run_dir, objective_.module(), optimizer_, ema(), identity_);
  optimizer_.set_lr(lr);
  if (options_.ranks) options_.ranks->sum({&written, 1});  // all have read it
  const int64_t left_out = step - state_->step;            // and the one that is not finite
  state_->result.skipped += left_out + 1, state_->skipped_in_row = 1;
  state_->part.batches += left_out;
  state_->gone_back_to = state_->step;
  state_->step = step;
}

// Of each plan a number of micro-batches that does, doubled until it did, as the step itself shows.
std::string Trainer::what_fits(const data::Dataset& train, const data::Indices& indices) {
  struct Restored {  // also by an exception
    TrainerOptions& options;
    const Plan plan = options.plan;
    const int64_t accumulate = options.accumulate;
    ~Restored() { options.plan = plan, options.accumulate = accumulate; }
  } const before{options_};
  const int64_t most = std::ssize(indices);
  std::string fits;
  for (const Plan other : {Plan::stacked, Plan::sequential, Plan::replay}) {
    if (options_.passes == 1 && other != before.plan) continue;  // it would be the same
    const bool same = other == before.plan;                      // which did not fit
    for (int64_t parts = std::min(most, before.accumulate * (same ? 2 : 1)),
                 last = same ? before.accumulate : 0;
         parts > last; last = parts, parts = std::min(most, 2 * parts)) {
      options_.plan = other, options_.accumulate = parts;
      const std::optional<int64_t> bytes = memory_of_step(train, indices);
      if (!bytes) continue;
      fits += fmt::format("{}plan {}, accumulate {} ({:.1f} MB)", fits.empty() ? "" : "; ", name_of(other),
                          parts, static_cast<double>(*bytes) / 1e6);
      break;
    }
  }
  return fits.empty() ? "nothing fits: not a sample at a time, whatever the plan" : "what fits: " + fits;
}

// The peak of its device, in bytes; none where it does not fit, either. Nothing changes.
std::optional<int64_t> Trainer::memory_of_step(const data::Dataset& train, const data::Indices& indices) {
  Backend& device = backend(objective_.module().device());
  try {
    optimizer_.zero_grad();
    device.release_cached();
    device.reset_peak();
    const StepBatches batches = load(train, indices, state_->step);
    device.await_uploads();
    const StepOptions options = step_options();
    const Step step(objective_.module(), optimizer_, nn::passes_of(options));
    backward(objective_, batches, options);
    optimizer_.step(full({2}, NAN, {DType::f64, objective_.module().device()}));  // its state, and no update
    optimizer_.take_back();
  } catch (const OutOfMemoryError&) {
    return {};
  } catch (const std::bad_alloc&) {
    return {};
  } catch (const Error&) {  // what else is wrong with it is not told here
    return {};
  }
  optimizer_.zero_grad();
  return device.stats().peak;
}

}  // namespace tandem::nn
