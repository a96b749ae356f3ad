// One step of training as a scope: what a loop written by hand would have to remember. The Trainer's steps
// are the same object. Example:
//
//   const auto schedule = nn::Schedule::cosine(/*warmup=*/30, /*total=*/300);
//   for (int i = 0; i < 300; ++i) {
//     nn::Step step(model, optimizer, {.passes = 3, .schedule = schedule});
//     LossParts parts = rdrop_cross_entropy(model.forward(x), labels, {.alpha = 1});
//     parts.loss.backward();
//     optimizer.step();                      // or step.update(max_norm), which clips
//   }
//
// It clears the gradients of the optimizer's parameters and of all the model's, puts a model that was in eval
// mode into training mode (a layer that alone was put into eval mode stays there), opens the passes with
// noise of its own number, which is that of the optimizer's updates so far, sets the learning rate of its
// update by the schedule, and folds running statistics (batch norm) into the model's when the optimizer
// updates.
//
// The passes are those of the thread that begins the step: forwards run there, and the step ends there.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "autograd/pass_context.h"
#include "nn/module.h"
#include "nn/optim/optimizer.h"
#include "nn/optim/schedule.h"

namespace tandem::nn {

// The passes of a step, their noise, and the rate of its update.
struct StepPasses {
  int passes = 2;                       // m
  uint64_t seed = 0;                    // of the noise
  std::vector<double> rates = {};       // a dropout rate per pass, or empty: every layer's own
  double rate_scale = 1;                // multiplies every dropout's own rate; not beside `rates`
  DType precision = DType::f32;         // of products: f32 or bf16
  std::optional<uint64_t> number = {};  // of the step; the optimizer's updates so far
  Schedule schedule = {};               // of number() + 1: multiplies the optimizer's learning rate
};

struct StepOptions;
StepPasses passes_of(const StepOptions& options);  // of a step as the trainer has it (nn/train/plan.h)

class Step {
 public:
  // AutogradError while another step of this optimizer is open, and where its last one ended without an
  // update; ConfigError as of PassContext.
  [[nodiscard("it acts while it lives: give it a name")]] Step(Module& module, Optimizer& optimizer,
                                                               const StepPasses& options = {});
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  uint64_t number() const { return options_.step; }
  // The rate that an update has now: that of the optimizer, which set_lr() sets, by the schedule.
  double lr() const { return optimizer_.lr() * optimizer_.lr_factor_; }

  // Forwards from here on are of the next `samples` samples of the step's batch, whose gradients add up: with
  // RDropOptions::divisor, the units of all, they are those of one batch.
  void micro_batch(int64_t samples);

  // Updates by the gradients, clipped (max_norm 0: they are not; in .grad they stay as they are), and returns
  // their norm. NonFiniteError naming the step for a norm that is not finite: nothing has been changed then.
  // Waits for the gradients' device, which optimizer.step() does not.
  double update(double max_norm = 0);
  // This step shall not update anything.
  void skip() { skipped_ = true; }

 private:
  void updated(const Tensor& norm);
  void check_updated() const;

  Module& module_;
  Optimizer& optimizer_;
  PassOptions options_;
  std::optional<PassContext> passes_;
  int64_t updates_before_;
  int exceptions_;
  bool updated_ = false, skipped_ = false;
};

}  // namespace tandem::nn
