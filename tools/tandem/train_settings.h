// The options that every `tandem train TASK` has: how to train, with which passes, where the run goes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "nn/data/dataset.h"
#include "nn/io/safetensors.h"
#include "nn/optim/optimizer.h"
#include "nn/train/trainer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/fine_tuning.h"

namespace tandem::command {

// Every option with its default; a recipe replaces some of the defaults.
struct TrainSettings {
  std::string run;
  bool overwrite = false, dry_run = false, resume = false, compare = false, profile = false, quiet = false,
       tf32 = false;
  nn::TrainerOptions trainer{.measure_kl = 50, .epochs = 20, .clip_norm = 1};
  std::string plan = "stacked", precision = "f32", alpha_schedule = "constant", schedule = "cosine",
              optimizer = "adamw", on_nan = "stop";
  double lr = 1e-3, weight_decay = 0.05, momentum = 0.9, beta2 = 0.999;
  int64_t warmup = 0, decay_steps = 0;
  int64_t usual_warmup = 0;  // what a warmup of -1 means, as far as the run is long enough
  FineTuning tuning;
  int threads = 0;
  std::string device = "auto";
  int64_t log_every = 1, resume_from = 0;
  std::string save_every, max_time;  // steps_or_duration(), duration()
};

// `unit` is what a batch counts: "images".
void declare_passes(Command& to, TrainSettings& s);
void declare_training(Command& to, TrainSettings& s, const std::string& unit);
void declare_run(Command& to, TrainSettings& s);

// Of a checkpoint of the run in that folder, or of one of those that --compare makes below it; none where
// there is no checkpoint yet.
std::optional<nn::Metadata> metadata_of(const std::string& run);

// --resume: sets the options that were not given to those of the run in settings.run. ConfigError when that
// folder has no settings, or none that can be used, and for a given option that has another value in the run,
// unless what is learned does not depend on it. Returns the epochs that the run has there.
int64_t resume_settings(Command& command, const TrainSettings& s);

// ConfigError for values that do not fit each other. `rate`: the largest of the model's dropout rates.
void check_settings(const TrainSettings& s, double rate);

// As the trainer takes them; without the run's folder and name.
nn::TrainerOptions trainer_options(const TrainSettings& s, const data::Dataset& train);
// Weight decay is for matrices: not for biases, norms, the class token or positions, but with --decay-all.
std::unique_ptr<nn::Optimizer> make_optimizer(const TrainSettings& s, const nn::Module& module,
                                              const FineTuned& tuned);

}  // namespace tandem::command
