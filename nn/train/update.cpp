#include "nn/train/update.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "nn/train/step.h"
#include "ops/arithmetic.h"

namespace tandem::nn {

Update begin_update(Objective& objective, Optimizer& optimizer, Ema* ema, GradientNorm& gradient_norm,
                    double clip_norm, const StepBatches& batches, const StepOptions& options, bool deferred) {
  const Step step(objective.module(), optimizer,
                  {.passes = options.passes,
                   .seed = options.seed,
                   .rates = options.rates,
                   .rate_scale = options.rate_scale,
                   .precision = options.precision,
                   .number = options.step,
                   .schedule = options.schedule});
  Update update{.parts = backward(objective, batches, options, deferred),
                .units = batches.units,
                .options = options,
                .deferred = deferred};
  const Tensors parameters = objective.module().parameters();
  update.norm = clip_norm > 0 ? gradient_norm.clip_tensor(parameters, clip_norm)
                              : gradient_norm.norm_tensor(parameters);
  const NoGradGuard no_grad;
  for (const LossParts& part : update.parts)
    update.norm = update.norm.to(part.loss.device()) + (part.loss - part.loss).to(DType::f64);
  optimizer.step(update.norm);
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
