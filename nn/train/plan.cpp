#include "nn/train/plan.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "autograd/scope.h"

namespace tandem::nn {

int64_t Objective::valid_units(const data::Batch& batch) const {
  int64_t count = batch.target.numel();
  const auto valid =
      batch.valid.defined() ? batch.valid.to_vector<uint8_t>() : std::vector<uint8_t>(count, 1);
  const auto labels =
      is_floating(batch.target.dtype()) ? std::vector<int64_t>(count) : batch.target.to_vector<int64_t>();
  count = 0;
  for (size_t i = 0; i < labels.size(); ++i)
    count += valid[i] != 0 && labels[i] != RDropOptions().ignore_index;
  return count;
}

Plan parse_plan(std::string_view name) {
  for (Plan plan : {Plan::stacked, Plan::sequential, Plan::replay}) {
    if (name == name_of(plan)) return plan;
  }
  raise<ConfigError>("plan: expected stacked, sequential or replay, got '{}'", name);
}

std::string_view name_of(Plan plan) {
  return plan == Plan::stacked ? "stacked" : plan == Plan::sequential ? "sequential" : "replay";
}

void check_step_options(const StepOptions& o) {
  check<ConfigError>(o.passes >= 1, "passes: expected at least 1, got {}", o.passes);
  check<ConfigError>(o.passes <= kMaxPasses, "passes: expected at most {}, got {}", kMaxPasses, o.passes);
  check<ConfigError>(std::isfinite(o.alpha) && o.alpha >= 0, "alpha: expected a number >= 0, got {}",
                     o.alpha);
  check<ConfigError>(o.rates.empty() || static_cast<int>(o.rates.size()) == o.passes,
                     "rates: expected one for each of the {} passes, got {}", o.passes, o.rates.size());
  for (double p : o.rates) check<ConfigError>(p >= 0 && p < 1, "rates: expected rates in [0, 1), got {}", p);
  check<ConfigError>(o.label_smoothing >= 0 && o.label_smoothing < 1,
                     "label_smoothing: expected a number in [0, 1), got {}", o.label_smoothing);
  check<ConfigError>(o.rates.empty() || o.rate_scale == 1,
                     "rate_scale: {} beside rates, which replace every rate", o.rate_scale);
  check<ConfigError>(o.precision == DType::f32 || o.precision == DType::bf16,
                     "precision: expected f32 or bf16, got {}", name_of(o.precision));
  check<ConfigError>(std::isfinite(o.rate_scale) && o.rate_scale >= 0,
                     "rate_scale: expected a number >= 0, got {}", o.rate_scale);
}

void check_finite_loss(const StepResult& result, uint64_t step) {
  check<ValueError>(std::isfinite(result.loss),
                    "loss: {} at step {} (ce {}, kl {}); the weights were not changed", result.loss, step,
                    result.ce, result.kl);
}

void check_finite_norm(double norm, uint64_t step) {
  check<ValueError>(std::isfinite(norm), "gradient: its norm is {} at step {}; the weights were not changed",
                    norm, step);
}

namespace {

// One micro-batch of a step.
class MicroBatch {
 public:
  MicroBatch(Objective& objective, const data::Batch& batch, const StepOptions& options,
             uint64_t sample_offset, double divisor, bool deferred)
      : objective_(objective),
        batch_(batch),
        options_(options),
        sample_offset_(sample_offset),
        divisor_(divisor),
        deferred_(deferred) {}

  LossParts backward() {
    switch (options_.plan) {
      case Plan::sequential:
        return sequential();
      case Plan::replay:
        return options_.passes == 1 ? stacked() : replay();
      default:
        return stacked();
    }
  }

 private:
  // The primitive under every plan: passes [first, first + count) of the forward, with a tape or without.
  Tensor run(int first, int count, bool tape, bool first_time = true) {
    PassContext context({.seed = options_.seed,
                         .step = options_.step,
                         .first = first,
                         .count = count,
                         .rates = options_.rates,
                         .rate_scale = options_.rate_scale,
                         .sample_offset = sample_offset_,
                         .batch = batch_.size,
                         .updates_statistics = first_time,
                         .compute = options_.precision});
    GradMode mode(tape);
    return objective_.forward(batch_);
  }

  LossParts loss(const Tensor& output) {
    return objective_.loss(output, batch_,
                           {.alpha = options_.alpha,
                            .label_smoothing = options_.label_smoothing,
                            .divisor = divisor_,
                            .deferred = deferred_},
                           options_.passes);
  }

  LossParts stacked() {
    LossParts parts = loss(run(0, options_.passes, true));
    parts.loss.backward();
    return parts;
  }

  LossParts sequential() {
    Tensors outputs;
    for (int i = 0; i < options_.passes; ++i) outputs.push_back(run(i, 1, true));
    LossParts parts = loss(stack_passes(outputs));
    parts.loss.backward();
    return parts;
  }

  LossParts replay() {
    const int last = options_.passes - 1;
    Tensors outputs;
    for (int i = 0; i < last; ++i) outputs.push_back(run(i, 1, false));
    const Tensor kept = run(last, 1, true);
    outputs.push_back(kept.detach());
    const Tensor output = stack_passes(outputs).requires_grad_();
    outputs.clear();
    LossParts parts = loss(output);
    parts.loss.backward();
    if (!kept.requires_grad()) return parts;  // a frozen trunk: all that learns is in the loss
    kept.backward(output.grad().pass(last));
    for (int i = 0; i < last; ++i) run(i, 1, true, false).backward(output.grad().pass(i));
    return parts;
  }

  Objective& objective_;
  const data::Batch& batch_;
  const StepOptions& options_;
  uint64_t sample_offset_;
  double divisor_;
  bool deferred_;
};

}  // namespace

bool draws_noise(Objective& objective, const data::Batch& batch, const StepOptions& options) {
  batch.check_size();
  PassContext context({.seed = options.seed,
                       .count = options.passes,
                       .rates = options.rates,
                       .rate_scale = options.rate_scale,
                       .batch = batch.size,
                       .updates_statistics = false,
                       .compute = options.precision});
  const NoGradGuard no_grad;
  objective.forward(batch.to(objective.module().device()));
  return context.drew_noise();
}

StepBatches upload(const Objective& objective, Device device, const std::vector<data::Batch>& micro_batches) {
  StepBatches result;
  for (const data::Batch& batch : micro_batches) {
    result.units += objective.valid_units(batch);
    result.micro_batches.push_back(batch.upload(device));
  }
  return result;
}

std::vector<LossParts> backward(Objective& objective, const StepBatches& batches, const StepOptions& options,
                                bool deferred) {
  check_step_options(options);
  check<ValueError>(batches.units > 0, "step {}: no unit of the batch counts towards the loss", options.step);
  std::vector<LossParts> parts;
  uint64_t sample_offset = options.sample_offset;
  const Device device = objective.module().device();
  for (const data::Batch& micro_batch : batches.micro_batches) {
    micro_batch.check_size();
    const data::Batch batch = micro_batch.to(device);
    parts.push_back(
        MicroBatch(objective, batch, options, sample_offset, static_cast<double>(batches.units), deferred)
            .backward());
    sample_offset += batch.size;
  }
  return parts;
}

LossParts read(LossParts parts) {
  const LossSums sums = read_loss_sums(parts.device_sums);
  parts.ce = sums.ce, parts.kl = sums.kl, parts.valid = sums.valid, parts.correct = sums.correct;
  return parts;
}

bool can_be_deferred(const LossParts& parts) {
  if (!parts.device_sums.defined()) return false;
  const LossParts there = read(parts);
  return parts.ce == there.ce && parts.kl == there.kl && parts.correct == there.correct;
}

StepResult step_result(const Objective& objective, const std::vector<LossParts>& parts, int64_t units,
                       const StepOptions& options) {
  StepResult result{.units = units};
  int64_t correct = 0;
  for (const LossParts& part : parts) {
    result.ce += part.ce;
    result.kl += part.kl;
    correct += part.correct;
  }
  result.loss = result.ce + options.alpha / 2 * result.kl;
  if (objective.counts_correct()) {
    result.accuracy = static_cast<double>(correct) / (static_cast<double>(units) * options.passes);
  }
  return result;
}

StepResult accumulate_gradients(Objective& objective, const StepBatches& batches,
                                const StepOptions& options) {
  return step_result(objective, backward(objective, batches, options), batches.units, options);
}

StepResult accumulate_gradients(Objective& objective, const std::vector<data::Batch>& micro_batches,
                                const StepOptions& options) {
  StepBatches batches{micro_batches};
  for (const data::Batch& batch : micro_batches) batches.units += objective.valid_units(batch);
  return accumulate_gradients(objective, batches, options);
}

}  // namespace tandem::nn
