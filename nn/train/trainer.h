// Trainer: m-pass R-Drop training of any objective, from data set to checkpoints. Example:
//
//   nn::AdamW optimizer{model.parameters(), {.lr = 1e-3}};
//   nn::Trainer trainer{model, optimizer, {.passes = 3, .rates = {0.1, 0.3, 0.5}, .epochs = 1}};
//   nn::FitResult result = trainer.fit(points, points);  // of training and of validation
//   fmt::print("accuracy {:.3f}\n", result.best().accuracy);
//
// The loss is mean_i CE(P_i, y) + (alpha / 2) mean_{i != j} KL(P_i || P_j) over m passes of each batch with
// independent noise (arXiv 2106.14448, Eq. 4, halved at m = 2): alpha is in the paper's units.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/optim/schedule.h"
#include "nn/train/evaluate.h"
#include "nn/train/non_finite.h"
#include "nn/train/update.h"

namespace tandem::nn {

// How alpha moves during training.
enum class AlphaSchedule {
  constant,
  warmup,  // linearly from 0 over the first alpha_warmup steps
  lr,      // in proportion to the learning rate
};
AlphaSchedule parse_alpha_schedule(std::string_view name);  // ConfigError for an unknown one
std::string_view name_of(AlphaSchedule schedule);

// What validation is judged by in place of accuracy or loss. `measure` is called after each epoch, in the
// model's eval mode and without a tape, with the result of evaluate(). A measure that is NaN, for instance of
// predictions that are all the same, is worse than every number; what it throws ends the run.
struct ValidationMetric {
  std::string name = {};  // "BLEU"
  std::function<double(const Metrics&)> measure;
  bool higher_is_better = true;  // or lower
};

// What a training is, beside the model, the optimizer and the data.
struct TrainerOptions {
  int passes = 2;                                          // m; 1 trains plainly
  double alpha = 1;                                        // weight of the KL term, in the paper's units
  AlphaSchedule alpha_schedule = AlphaSchedule::constant;  // how alpha moves
  int64_t alpha_warmup = 0;                                // steps
  std::vector<double> rates = {};  // a dropout rate per pass, or empty: every layer's own
  double rate_scale = 1;           // multiplies every dropout's own rate; not beside `rates`
  DType precision = DType::f32;    // bf16: mixed precision (StepOptions::precision)
  bool cuda_graph = false;  // steps of equal shapes are recorded and replayed (RecordedSteps); on a device
  int64_t rdrop_every = 1;  // m passes at every k-th step, one plain pass at the others
  int64_t measure_kl =
      0;  // plain training: two passes of every k-th batch are held against each other; 0: none
  Plan plan = Plan::stacked;   // how passes are run: a choice of time and memory
  double label_smoothing = 0;  // as of RDropOptions

  int64_t epochs = 10;      // unless patience ends it before
  int64_t batch_size = 64;  // samples of an optimizer step
  int64_t accumulate = 1;   // micro-batches it is cut into
  bool drop_last = false;   // leaves out an epoch's batch of fewer samples than batch_size
  Schedule schedule = {};   // multiplies the optimizer's learning rate
  double clip_norm = 0;     // of the whole gradient; 0: no clipping
  double ema = 0;           // decay of averaged weights, which are validated and kept as best (Ema); 0: none
  uint64_t seed = 0;        // of noise, order and augmentation
  OnNan on_nan = OnNan::stop;  // at a step whose loss or gradient is not finite; `back` needs a run_dir

  int64_t eval_batch_size = 256;  // of validation
  int64_t eval_steps = 0;         // validation after every so many steps, too, not only after epochs; 0: none
  int64_t patience = 0;           // validations without a better metric before stopping; 0: never
  int64_t average =
      0;  // the mean of the weights at the last N validations is tried as best too; 0: it is not
  ValidationMetric metric = {};  // without a name: accuracy, or loss where nothing is counted
  std::string run_dir = {};      // metrics.csv and checkpoints go there; empty: nothing is written
  int64_t save_steps = 0;   // a checkpoint after every so many steps, too, not only after epochs; 0: none
  int64_t keep = 1;         // checkpoints that stay: the last one, and those before it (checkpoint_file)
  double save_seconds = 0;  // and after the first step after so many seconds; 0: none
  bool progress = true;     // a live bar on standard error
  // Processes that train together: every rank computes its share of each micro-batch, and all have the
  // weights that one would have. The first shows and writes; all read run_dir. Must outlive the trainer.
  Ranks* ranks = nullptr;
  std::string name = {};         // in front of the bar
  std::string unit = "samples";  // of the rate
  double trainings_after = 0;    // that follow, of the cost of this one: for the time left
  std::map<std::string, std::string> metadata = {};  // kept in the checkpoints; a run goes on with the same
  std::map<std::string, std::string> notes = {};     // kept there, too, and free to change
};

// What fit() has seen: rows of metrics.csv.
struct FitResult {
  std::vector<Metrics> train = {};  // one for each epoch; the last, of part of one where patience ended it
  std::vector<Metrics> valid = {};  // one for each epoch, or with eval_steps for each evaluation
  int64_t best_epoch = 0;           // from 0: the one that the best evaluation was in, or after
  int64_t best_evaluation = 0;      // of `valid`: the same without eval_steps
  bool stopped_early = false;       // by patience
  int64_t skipped = 0;              // steps that TrainerOptions::on_nan left out
  std::optional<Metrics> averaged = {};  // of the last validations' mean weights, where better than any's
  // What the weights at the end had in validation.
  const Metrics& best() const { return averaged ? *averaged : valid[best_evaluation]; }
};

class RecordedSteps;
struct LastFile;

class Trainer {
 public:
  // The objective, or the model, and the optimizer must outlive the trainer. ConfigError naming the option
  // that is out of its range.
  Trainer(Objective& objective, Optimizer& optimizer, TrainerOptions options = {});
  // Of a classifier: labels [B], model.forward(batch's input) gives logits [B, classes].
  template <class Model>
  requires std::derived_from<Model, Module> Trainer(Model& model, Optimizer& optimizer,
                                                    TrainerOptions options = {})
      : Trainer(std::make_unique<Classification<Model>>(model), optimizer, std::move(options)) {}
  ~Trainer();

  // Trains for options.epochs and evaluates after each, and after every options.eval_steps; at the end the
  // model has the weights that were best by options.metric. A step none of whose units counts changes nothing
  // but the number of steps. Before the first epoch: ConfigError for empty data, where drop_last leaves
  // nothing, and where ranks differ in data, options or weights; ValueError where no unit of either data set
  // counts, and where the model cannot take a batch of one sample that an epoch has, as batch norm of single
  // pixels. IoError when a file cannot be written.
  // OutOfMemoryError naming plans and micro-batches that fit, which were tried.
  // NonFiniteError when a loss or a gradient is not finite and options.on_nan does not go on: it names the
  // step, the op that made the first such number, the samples of the batch and the last checkpoint. The
  // weights are then those of the step before, the files on disk those of that checkpoint.
  FitResult fit(const data::Dataset& train, const data::Dataset& valid);

  // Goes on where the run in options.run_dir was saved last, bit for bit as if it had not stopped. More
  // epochs, another device, plan, number of micro-batches or patience are for the caller to choose. IoError
  // when it cannot go on: a file is missing or damaged, or another process trains there; ConfigError naming
  // both values for other data, metadata or options than the run's. Files that last.safetensors has in it are
  // written again if they are gone.
  // With `step`, from the checkpoint after so many steps, one of those that options.keep left, as if the run
  // had been stopped there: later checkpoints, best weights and rows of metrics.csv are gone with the first
  // commit, which comes before the first step. ConfigError naming those that there are.
  FitResult resume(const data::Dataset& train, const data::Dataset& valid, std::optional<int64_t> step = {});

  // Loads the run in options.run_dir and checks all of it, as resume() does, without going on.
  void restore(const data::Dataset& train, const data::Dataset& valid, std::optional<int64_t> step = {});

  // One optimizer step on the given micro-batches. NonFiniteError naming the op that made the first number
  // that is not finite: nothing has changed then. ConfigError with ranks.
  StepResult step(const std::vector<data::Batch>& micro_batches);

  int64_t steps_done() const;       // by this run, those before it was resumed included
  const FitResult& so_far() const;  // what it has come to, up to the last validation

  // Writes last.safetensors of this very moment, between two steps: for on_step, before it ends a run.
  // IoError as of fit(). Nothing without options.run_dir.
  void save();

  // Called after every step and validation, and before they are saved, for a caller's own report, and before
  // every epoch, from 0, for what changes with it: which parameters learn. What they throw ends the run.
  std::function<void(const Metrics&)> on_step;
  std::function<void(const Metrics& validated)> on_validation;  // before it is saved
  std::function<void(int64_t epoch)> on_epoch;

 private:
  Trainer(std::unique_ptr<Objective> objective, Optimizer& optimizer, TrainerOptions options);
  struct State;

  FitResult run(const data::Dataset& train, const data::Dataset& valid);
  std::vector<data::Indices> batches_of_epoch(const data::Dataset& train) const;
  void check_data(const data::Dataset& train, const data::Dataset& valid);
  Metrics train_epoch(const data::Dataset& train, const data::Dataset& valid);
  Metrics epoch_so_far() const;
  bool evaluation_is_due() const;
  void evaluate_within(const data::Dataset& valid);
  Metrics evaluate_finite(const data::Dataset& valid) const;
  Metrics validate(const data::Dataset& valid) const;
  bool judge(const Metrics& trained, const data::Dataset& valid, bool ends_epoch);
  bool keep(const Metrics& validated);
  std::map<std::string, std::string> kept_metadata() const;
  void save_validated(bool best);
  void save_part();
  bool saves_now() const;
  bool tells_kl() const;
  LastFile last(bool copied) const;
  void complete_folder();
  void go_back_to_step();
  void report(const Metrics& trained, const Metrics& validated, bool best) const;
  void try_average(const data::Dataset& valid);

  bool first_rank() const { return !options_.ranks || options_.ranks->first(); }
  void agree(const char* when, const std::map<std::string, std::string>& entries = {}) const;
  using Part = std::function<void(std::span<const int64_t>, const data::BatchContext&, const RankGroup&)>;
  void for_each_part(const data::Indices& indices, int64_t step, const Part& use) const;
  void prefetch(const data::Dataset& train, const data::Indices& indices, int64_t step) const;
  StepBatches load(const data::Dataset& train, const data::Indices& indices, int64_t step) const;
  Update begin(const StepBatches& batches);
  struct Attempt;
  Attempt attempt(const StepBatches& batches, const data::Dataset& train, const data::Indices& indices);
  StepResult settle(const Attempt& attempt, const StepBatches& batches, const data::Indices& indices);
  std::string origin(const StepBatches& batches, const data::Indices& indices) const;
  double measured_kl(const StepBatches& batches);
  StepResult leave_out(const std::string& failure, const StepBatches& batches, const data::Indices& indices);
  void go_back();
  std::string what_fits(const data::Dataset& train, const data::Indices& indices);
  std::optional<int64_t> memory_of_step(const data::Dataset& train, const data::Indices& indices);
  StepResult finish(const Update& update);
  void record_anew();  // forgets what was recorded
  StepOptions step_options() const;
  int passes_of(int64_t step) const;
  double alpha_now() const;
  bool better(const Metrics& a, const Metrics& b) const;
  bool out_of_patience() const;
  Ema* ema() { return ema_ ? &*ema_ : nullptr; }

  std::unique_ptr<Objective> owned_;
  Objective& objective_;
  Optimizer& optimizer_;
  TrainerOptions options_;
  std::unique_ptr<State> state_;
  std::map<std::string, std::string> identity_;  // what a resumed run must have in common with this one
  std::optional<Ema> ema_;
  GradientNorm gradient_norm_;
  std::unique_ptr<RecordedSteps> recorded_;
  std::optional<GradientSum> gradient_sum_;  // with ranks
  std::optional<bool> defers_;  // whether steps are read after they were given to a device; told by the first
};

}  // namespace tandem::nn
