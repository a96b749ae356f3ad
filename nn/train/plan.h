// One optimizer step's forward and backward: m passes of some micro-batches under a plan.
//
//   stacked      run(0..m): passes lead in memory, everything before the first noise runs once
//   sequential   m runs of one pass, one backward: the plain reference
//   replay       each pass without a tape up to the objective's output, the loss gradient there, then each
//                pass again with a tape (the last has one from the start): the activation memory of one pass
//
// The gradients of all three are equal, to rounding.
#pragma once

#include <string_view>
#include <vector>

#include "autograd/ranks.h"
#include "nn/optim/schedule.h"
#include "nn/train/objective.h"

namespace tandem::nn {

// How the passes of a step are run.
enum class Plan { stacked, sequential, replay };
Plan parse_plan(std::string_view name);  // ConfigError for an unknown one
std::string_view name_of(Plan plan);     // what parse_plan takes

// What a step is, as accumulate_gradients() takes it.
struct StepOptions {
  int passes = 2;              // m, from 1 to kMaxPasses
  double alpha = 1;            // the paper's units
  double label_smoothing = 0;  // as of RDropOptions
  std::vector<double> rates =
      {};                 // one per pass, replacing the rate of every dropout whose own is > 0; or empty
  double rate_scale = 1;  // multiplies every dropout's own rate; not beside `rates`
  DType precision = DType::f32;  // bf16: products and what they make in bf16; weights, sums and losses in f32
  Plan plan = Plan::stacked;     // changes time and memory alone
  uint64_t seed = 0;             // of the noise
  uint64_t step = 0;             // of the optimizer
  uint64_t sample_offset = 0;    // of the first micro-batch in the global batch
  Schedule schedule = {};        // of step + 1: multiplies the optimizer's learning rate
};

// ConfigError naming the option when one is out of its range.
void check_step_options(const StepOptions& options);

// Means over the valid units of the step; ce and kl in nats, or squared errors.
struct StepResult {
  double loss = 0, ce = 0, kl = 0;  // as of LossParts
  double accuracy = -1;             // over valid units and passes; -1 where nothing is counted
  int64_t units = 0;                // that counted
  double gradient_norm = 0;         // of all parameters, before it is clipped
};

// NonFiniteError naming the step for a loss, or a norm of its gradients, that is not finite.
void check_finite_loss(const StepResult& result, uint64_t step);
void check_finite_norm(double norm, uint64_t step);

// Whether the objective's forward of this batch draws noise in the model's present mode. Without (all rates
// 0, eval mode) the passes are equal and KL is 0. One forward without a tape; nothing changes. Errors are the
// forward's own.
bool draws_noise(Objective& objective, const data::Batch& batch, const StepOptions& options);

struct StepBatches;
// The KL of two passes of a step's batches, per unit, in the model's present mode: what plain training would
// see if it made another pass. Two forwards without a tape; nothing changes.
double kl_between_passes(Objective& objective, const StepBatches& batches, StepOptions options);

// The micro-batches of one step, how many of their units count, and what these weigh.
struct StepBatches {
  std::vector<data::Batch> micro_batches;  // on the device
  int64_t units = 0;
  double weight = 0;  // of these units: Objective::weight_of
  // Where each micro-batch is in the global batch, and which ranks compute it together. Empty: they follow
  // one another from StepOptions::sample_offset on, all this process's own. With ranks, `units` and `weight`
  // are those of all of them, of whose micro-batches these are the parts that are this one's.
  struct Place {
    uint64_t sample_offset = 0;  // of its first sample
    RankGroup ranks = {};        // with whom
  };
  std::vector<Place> places = {};
  bool on_all_ranks = true;  // each of the step's micro-batches has samples on every rank
};
// Counts the units on the host and begins the copies to the device: to be read after
// backend(device).await_uploads() only.
StepBatches upload(const Objective& objective, Device device, const std::vector<data::Batch>& micro_batches);

// Adds the gradients of the step's loss to .grad of the parameters. The divisor is the number of valid units
// of all micro-batches, so that 1 x 64 and 4 x 16 are the same step. ConfigError as of check_step_options;
// ShapeError as of Batch::check_size; ValueError when no unit counts.
StepResult accumulate_gradients(Objective& objective, const StepBatches& batches, const StepOptions& options);
StepResult accumulate_gradients(Objective& objective, const std::vector<data::Batch>& micro_batches,
                                const StepOptions& options);

// Its two halves: the loss of each micro-batch after its backward (RDropOptions::deferred), and the means
// over the step.
// `last`: the options of the last backward, after which all gradients are whole.
std::vector<LossParts> backward(Objective& objective, const StepBatches& batches, const StepOptions& options,
                                bool deferred = false, const BackwardOptions& last = {});
// Whether the numbers are those of device_sums, so that another batch's can be deferred: not so where an
// objective adds losses up.
bool can_be_deferred(const LossParts& parts);
LossParts read(LossParts parts);  // of a deferred loss: waits for the device, errors as of read_loss_sums
StepResult step_result(const Objective& objective, const std::vector<LossParts>& parts, int64_t units,
                       const StepOptions& options);

}  // namespace tandem::nn
