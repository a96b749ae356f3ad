#include "nn/train/step.h"

#include <cmath>
#include <exception>
#include <utility>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "nn/optim/clip.h"
#include "nn/train/plan.h"
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

StepPasses passes_of(const StepOptions& options) {
  return {.passes = options.passes,
          .seed = options.seed,
          .rates = options.rates,
          .rate_scale = options.rate_scale,
          .precision = options.precision,
          .number = options.step,
          .schedule = options.schedule};
}

Step::Step(Module& module, Optimizer& optimizer, const StepPasses& options)
    : module_(module),
      optimizer_(optimizer),
      options_{.seed = options.seed,
               .step = options.number.value_or(static_cast<uint64_t>(optimizer.updates())),
               .count = options.passes,
               .rates = options.rates,
               .rate_scale = options.rate_scale,
               .compute = options.precision},
      updates_before_(optimizer.updates()),
      exceptions_(std::uncaught_exceptions()) {
  check<AutogradError>(!optimizer.on_update_, "Step: another step of this optimizer is open in this scope");
  check<AutogradError>(!std::exchange(optimizer.left_, false),
                       "Step: the step before ended without optimizer.step() or step.update(); call "
                       "step.skip() in one that shall change nothing");
  passes_.emplace(options_);
  if (!module.is_training()) module.train();
  module.discard_statistics();  // of forwards outside of every step
  optimizer.zero_grad();
  module.zero_grad();  // of what this optimizer does not update, too: the norm is of all
  optimizer.lr_factor_ = options.schedule(static_cast<int64_t>(number()) + 1);
  optimizer.on_update_ = [this](const Tensor& norm) { updated(norm); };
}

Step::~Step() {
  optimizer_.on_update_ = nullptr;
  optimizer_.lr_factor_ = 1;
  module_.discard_statistics();  // of a step that updated nothing
  optimizer_.left_ = !updated_ && !skipped_ && std::uncaught_exceptions() == exceptions_;
}

void Step::micro_batch(int64_t samples) {
  check<AutogradError>(PassContext::current() == &*passes_,
                       "micro_batch: this step's passes are not the ones that are open on this thread; is it "
                       "the thread that began the step, and is every PassContext within it closed?");
  check<ConfigError>(samples > 0, "micro_batch: expected a number of samples above 0, got {}", samples);
  options_.sample_offset += static_cast<uint64_t>(options_.batch);
  options_.batch = samples;
  passes_.reset();
  passes_.emplace(options_);
}

double Step::update(double max_norm) {
  const Tensors parameters = module_.parameters();
  GradientNorm norms;
  const Tensor norm = max_norm > 0 ? norms.norm_tensor(parameters, max_norm) : norms.norm_tensor(parameters);
  const double value = norm.to_vector<double>()[0];
  check<NonFiniteError>(std::isfinite(value), "step {}: the norm of the gradients is {}; nothing was changed",
                        number(), value);
  optimizer_.step(norm);
  check_updated();
  return value;
}

void Step::check_updated() const {
  check<AutogradError>(optimizer_.updates() > updates_before_,
                       "step {}: no parameter has a gradient; was backward() called in this step?", number());
}

// With a norm it is the Trainer that looks at what was updated, when it knows.
void Step::updated(const Tensor& norm) {
  updated_ = true;
  if (norm.defined()) return commit_statistics_if_finite(module_, norm);
  check_updated();
  module_.commit_statistics();
}

}  // namespace tandem::nn
