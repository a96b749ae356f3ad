#include "nn/train/update.h"

#include <algorithm>
#include <cmath>

#include "autograd/grad_mode.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"

namespace tandem::nn {
namespace {

// Folds the step's statistics into the running ones, which stay as they are where the norm is not finite.
void commit_statistics_if_finite(Module& module, const Tensor& norm) {
  if (norm.device() == kCpu) {
    if (std::isfinite(norm.data<double>()[0])) module.commit_statistics();
    return;
  }
  const NamedTensors buffers = module.named_buffers(), before = nn::clone(buffers);
  module.commit_statistics();
  const Tensor finite = eq(norm - norm, 0).select(0, 0);
  for (size_t i = 0; i < buffers.size(); ++i)
    buffers[i].tensor.copy_(where(finite, buffers[i].tensor, before[i].tensor));
}

}  // namespace

Update begin_update(Objective& objective, Optimizer& optimizer, GradientNorm& gradient_norm, double clip_norm,
                    const StepBatches& batches, const StepOptions& options, bool deferred) {
  optimizer.zero_grad();
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
  commit_statistics_if_finite(objective.module(), update.norm);
  return update;
}

StepResult finish_update(const Objective& objective, Optimizer& optimizer, const Update& update) {
  try {
    std::vector<LossParts> parts = update.parts;
    if (update.deferred) std::transform(parts.begin(), parts.end(), parts.begin(), read);
    const StepResult result = step_result(objective, parts, update.units, update.options);
    check_finite_loss(result, update.options.step);
    check_finite_norm(update.norm.to_vector<double>()[0], update.options.step);
    return result;
  } catch (...) {
    optimizer.take_back();
    throw;
  }
}

}  // namespace tandem::nn
