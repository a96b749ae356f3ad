// Evaluation of an objective on a data set, and the row of metrics of an evaluation or a training epoch.
#pragma once

#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/grad_mode.h"
#include "autograd/ranks.h"
#include "nn/train/objective.h"

namespace tandem::nn {

// A row of metrics.csv: means over the valid units of an evaluation, or of an epoch's steps.
struct Metrics {
  int64_t epoch = 0, step = 0;                 // the epoch, from 0, and the steps so far
  double loss = 0, ce = 0, kl = 0;             // as of LossParts
  double accuracy = 0;                         // -1 where nothing is counted (Objective::counts_correct)
  double lr = 0, alpha = 0;                    // of the last step
  double samples_per_second = 0, seconds = 0;  // of all that the row is about
  double metric = std::numeric_limits<double>::quiet_NaN();  // TrainerOptions::metric, of validation rows
  // Of one step, as Trainer::on_step has it:
  double gradient_norm = std::numeric_limits<double>::quiet_NaN();  // of all parameters, before it is clipped
  double data_wait = 0;                                             // seconds that it waited for its batch
  double rank_wait = std::numeric_limits<double>::quiet_NaN();  // and, after its backward, for other ranks
  bool skipped = false;  // it was not finite, and changed nothing (TrainerOptions::on_nan)
};

// One pass of every batch without noise, in eval mode and without a tape: loss is ce (nats a unit, or the
// mean squared error), kl is 0. The modes of the model and of all
// below it are the old ones afterwards. ConfigError for an empty data set
// or a batch_size below 1; ValueError when no unit of the data set counts. Example:
//
//   nn::Classification objective(model);
//   nn::Metrics test = nn::evaluate(objective, points);
//   fmt::print("loss {:.4f}, accuracy {:.1f} %\n", test.loss, 100 * test.accuracy);
//
// With ranks, each computes its share of the batches, and all have the same result.
Metrics evaluate(Objective& objective, const data::Dataset& dataset, int64_t batch_size = 256,
                 Ranks* ranks = nullptr);

// ValueError naming `which` unless some unit of the data set counts. Reads no more of it than it takes to
// find one: what evaluate() would refuse at the end of a training, told before.
void check_counts(const Objective& objective, const data::Dataset& dataset, std::string_view which,
                  int64_t batch_size = 256);

// Eval mode without a tape for a scope; at its end, also by an exception, each module below is in its old
// mode again: what was frozen by eval() (batch norm) stays frozen.
class EvalMode {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] explicit EvalMode(Module& module);
  ~EvalMode();
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> were_training_;  // parents before their children
  NoGradGuard no_grad_;
};

}  // namespace tandem::nn
