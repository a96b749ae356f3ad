#include "nn/train/plan.h"

#include <algorithm>
#include <cmath>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "autograd/scope.h"
#include "ops/arithmetic.h"
#include "ops/reduce.h"

namespace tandem::nn {

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
  check<NonFiniteError>(std::isfinite(result.loss),
                        "loss: {} at step {} (ce {}, kl {}); the weights were not changed", result.loss,
                        step + 1, result.ce, result.kl);
}

void check_finite_norm(double norm, uint64_t step) {
  check<NonFiniteError>(std::isfinite(norm),
                        "gradient: its norm is {} at step {}; the weights were not changed", norm, step + 1);
}

namespace {

// One micro-batch of a step.
class MicroBatch {
 public:
  MicroBatch(Objective& objective, const data::Batch& batch, const StepOptions& options,
             const StepBatches::Place& place, const StepBatches& step, bool deferred,
             BackwardOptions last = {})
      : objective_(objective),
        batch_(batch),
        options_(options),
        place_(place),
        last_(std::move(last)),
        divisor_(static_cast<double>(step.units)),
        weight_divisor_(step.weight),
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

  double kl() { return loss(run(0, options_.passes, false, false)).kl; }

 private:
  // The primitive under every plan: passes [first, first + count) of the forward, with a tape or without.
  Tensors run(int first, int count, bool tape, bool first_time = true) {
    PassContext context({.seed = options_.seed,
                         .step = options_.step,
                         .first = first,
                         .count = count,
                         .rates = options_.rates,
                         .rate_scale = options_.rate_scale,
                         .sample_offset = place_.sample_offset,
                         .batch = batch_.size,
                         .updates_statistics = first_time,
                         .compute = options_.precision,
                         .ranks = place_.ranks});
    GradMode mode(tape);
    return objective_.outputs(of_passes(first, count));
  }

  // The batch as those passes see it: of inputs that differ between passes, theirs.
  data::Batch of_passes(int first, int count) const {
    return batch_.map([&](const Tensor& x) {
      if (x.passes() == 1 || x.passes() == count) return x;
      Tensors each;
      for (int i = first; i < first + count; ++i) each.push_back(x.pass(i));
      return count == 1 ? each.front() : stack_passes(each);
    });
  }

  LossParts loss(const Tensors& outputs) {
    try {
      return objective_.loss_of(outputs, batch_,
                                {.alpha = options_.alpha,
                                 .label_smoothing = options_.label_smoothing,
                                 .divisor = divisor_,
                                 .weight_divisor = weight_divisor_,
                                 .deferred = deferred_},
                                options_.passes);
    } catch (const NonFiniteError&) {
      if (!place_.ranks.ranks) throw;
    }
    // The other ranks go on with the step, in which they wait for this one: they learn of it by its
    // gradients.
    const Tensor& x = outputs.front();
    Tensor total = sum(x.passes() > 1 ? x.pass(0) : x);
    for (int i = 1; i < x.passes(); ++i) total = total + sum(x.pass(i));
    return {.loss = NAN * total.to(DType::f32), .ce = NAN, .kl = NAN};
  }

  LossParts stacked() {
    LossParts parts = loss(run(0, options_.passes, true));
    parts.loss.backward({}, last_);
    return parts;
  }

  LossParts sequential() {
    std::vector<Tensors> passes;
    for (int i = 0; i < options_.passes; ++i) passes.push_back(run(i, 1, true));
    LossParts parts = loss(stacked_outputs(passes));
    parts.loss.backward({}, last_);
    return parts;
  }

  LossParts replay() {
    const int last = options_.passes - 1;
    std::vector<Tensors> passes;
    for (int i = 0; i < last; ++i) passes.push_back(run(i, 1, false));
    const Tensors kept = run(last, 1, true);
    passes.emplace_back();
    for (const Tensor& output : kept) passes.back().push_back(output.detach());
    Tensors outputs = stacked_outputs(passes);
    passes.clear();
    for (const Tensor& output : outputs)
      if (is_floating(output.dtype())) output.requires_grad_();
    LossParts parts = loss(outputs);
    parts.loss.backward();
    backward_from(kept, outputs, last);
    for (int i = 0; i < last; ++i)
      backward_from(run(i, 1, true, false), outputs, i, i + 1 == last ? last_ : BackwardOptions{});
    return parts;
  }

  // Each output of all passes, from those of each pass.
  static Tensors stacked_outputs(const std::vector<Tensors>& passes) {
    Tensors outputs;
    for (size_t k = 0; k < passes[0].size(); ++k) {
      Tensors each;
      for (const Tensors& pass : passes) each.push_back(pass[k]);
      outputs.push_back(stack_passes(each));
    }
    return outputs;
  }

  // The backward of one pass from the gradients of the outputs that have one. Not of a frozen trunk: all that
  // learns is in the loss.
  static void backward_from(const Tensors& pass, const Tensors& outputs, int i,
                            const BackwardOptions& options = {}) {
    Tensors roots, cotangents;
    for (size_t k = 0; k < pass.size(); ++k) {
      if (!pass[k].requires_grad() || !outputs[k].grad().defined()) continue;
      roots.push_back(pass[k]), cotangents.push_back(outputs[k].grad().pass(i));
    }
    if (roots.size() == 1) return roots[0].backward(cotangents[0], options);
    Tensor total;
    for (size_t k = 0; k < roots.size(); ++k) {
      const Tensor part = sum(roots[k] * cotangents[k]);
      total = total.defined() ? total + part : part;
    }
    if (total.defined()) total.backward({}, options);
  }

  Objective& objective_;
  const data::Batch& batch_;
  const StepOptions& options_;
  StepBatches::Place place_;
  BackwardOptions last_;
  double divisor_, weight_divisor_;
  bool deferred_;
};

// Where micro-batch i is: said, or behind the one before.
StepBatches::Place place_of(const StepBatches& batches, size_t i, uint64_t sample_offset) {
  return batches.places.empty() ? StepBatches::Place{sample_offset} : batches.places[i];
}

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
  objective.outputs(batch.to(objective.module().device()));
  const bool differ = std::any_of(batch.inputs.begin(), batch.inputs.end(),
                                  [](const Tensor& x) { return x.defined() && x.passes() > 1; });
  return context.drew_noise() || differ;
}

double kl_between_passes(Objective& objective, const StepBatches& batches, StepOptions options) {
  options.passes = 2;
  if (!options.rates.empty()) options.rates.resize(2, options.rates[0]);
  const NoGradGuard no_grad;
  double kl = 0;
  uint64_t sample_offset = options.sample_offset;
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    const data::Batch batch = batches.micro_batches[i].to(objective.module().device());
    kl += MicroBatch(objective, batch, options, place_of(batches, i, sample_offset), batches, false).kl();
    sample_offset += batch.size;
  }
  return kl;
}

StepBatches upload(const Objective& objective, Device device, const std::vector<data::Batch>& micro_batches) {
  StepBatches result;
  for (const data::Batch& batch : micro_batches) {
    const int64_t units = objective.valid_units(batch);
    result.units += units;
    result.weight += objective.weight_of(batch, units);
    result.micro_batches.push_back(batch.upload(device));
  }
  return result;
}

std::vector<LossParts> backward(Objective& objective, const StepBatches& batches, const StepOptions& options,
                                bool deferred, const BackwardOptions& last) {
  check_step_options(options);
  check<ValueError>(batches.units > 0, "step {}: no unit of the batch counts towards the loss", options.step);
  std::vector<LossParts> parts;
  uint64_t sample_offset = options.sample_offset;
  const Device device = objective.module().device();
  for (size_t i = 0; i < batches.micro_batches.size(); ++i) {
    batches.micro_batches[i].check_size();
    const data::Batch batch = batches.micro_batches[i].to(device);
    const bool is_last = i + 1 == batches.micro_batches.size();
    MicroBatch part(objective, batch, options, place_of(batches, i, sample_offset), batches, deferred,
                    is_last ? last : BackwardOptions{});
    parts.push_back(part.backward());
    sample_offset += batch.size;
    if (Ranks* ranks = place_of(batches, i, 0).ranks.ranks) ranks->progress();
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
  for (const data::Batch& batch : micro_batches) {
    const int64_t units = objective.valid_units(batch);
    batches.units += units;
    batches.weight += objective.weight_of(batch, units);
  }
  return accumulate_gradients(objective, batches, options);
}

}  // namespace tandem::nn
