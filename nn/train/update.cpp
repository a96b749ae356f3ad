#include "nn/train/update.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "nn/train/step.h"
#include "ops/arithmetic.h"

namespace tandem::nn {
namespace {

// The parts of this rank's micro-batches, perhaps none, as one that is of all ranks.
LossParts sum_of_parts(const std::vector<LossParts>& parts, Device device, Ranks& ranks) {
  double sums[5] = {};
  for (const LossParts& part : parts) {
    const double values[] = {part.loss.item<double>(), part.ce, part.kl, static_cast<double>(part.valid),
                             static_cast<double>(part.correct)};
    for (size_t i = 0; i < std::size(sums); ++i) sums[i] += values[i];
  }
  ranks.sum(sums);
  return {.loss = full({}, sums[0], {DType::f64, device}),
          .ce = sums[1],
          .kl = sums[2],
          .valid = static_cast<int64_t>(sums[3]),
          .correct = static_cast<int64_t>(sums[4])};
}

// Running statistics are of all micro-batches on the first rank, which has samples of each.
void take_from_first(const NamedTensors& buffers, Ranks& ranks) {
  const NoGradGuard no_grad;
  for (const auto& [name, buffer] : buffers) {
    std::vector<double> values = buffer.to_vector<double>();
    if (!ranks.first()) values.assign(values.size(), 0);
    ranks.sum(values);
    buffer.copy_(from_values(values, buffer.shape()).to(buffer.dtype()).to(buffer.device()));
  }
}

}  // namespace

Update begin_update(Objective& objective, Optimizer& optimizer, Ema* ema, GradientNorm& gradient_norm,
                    double clip_norm, const StepBatches& batches, const StepOptions& options, bool deferred,
                    GradientSum* all_ranks) {
  const Step step(objective.module(), optimizer, passes_of(options));
  const Tensors parameters = objective.module().parameters();
  if (all_ranks) all_ranks->begin(parameters);
  Update update{.parts = backward(objective, batches, options, deferred,
                                  all_ranks ? all_ranks->last_backward() : BackwardOptions{}),
                .units = batches.units,
                .options = options,
                .deferred = deferred};
  if (all_ranks) {
    all_ranks->finish();
    update.parts = {sum_of_parts(update.parts, objective.module().device(), all_ranks->ranks())};
  }
  update.norm = clip_norm > 0 ? gradient_norm.norm_tensor(parameters, clip_norm)
                              : gradient_norm.norm_tensor(parameters);
  const NoGradGuard no_grad;
  for (const LossParts& part : update.parts)
    update.norm = update.norm.to(part.loss.device()) + (part.loss - part.loss).to(DType::f64);
  optimizer.step(update.norm);
  if (all_ranks && !batches.on_all_ranks)
    take_from_first(objective.module().named_buffers(), all_ranks->ranks());
  if (ema != nullptr) ema->update(update.norm);
  return update;
}

StepResult finish_update(const Objective& objective, Optimizer& optimizer, Ema* ema, const Update& update) {
  try {
    std::vector<LossParts> parts = update.parts;
    if (update.deferred) std::transform(parts.begin(), parts.end(), parts.begin(), read);
    StepResult result = step_result(objective, parts, update.units, update.options);
    check_finite_loss(result, update.options.step);
    result.gradient_norm = update.norm.to_vector<double>()[0];
    check_finite_norm(result.gradient_norm, update.options.step);
    return result;
  } catch (...) {
    optimizer.take_back();
    if (ema != nullptr) ema->take_back();
    throw;
  }
}

}  // namespace tandem::nn
