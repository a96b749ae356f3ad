// The checkpoints of a run folder: the best weights by themselves, and all that going on needs. Nothing
// random is stored: noise, order and augmentation are functions of the seed, the step and the place in the
// batch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nn/io/safetensors.h"
#include "nn/train/trainer.h"

namespace tandem::nn {

// What an epoch that has begun has come to.
struct EpochPart {
  int64_t batches = 0;   // that are done
  int64_t samples = 0;   // of them
  double units = 0;      // that were counted in them
  int64_t kl_steps = 0;  // steps of plain training whose KL was measured
  Metrics means = {};    // over these units; seconds: since the epoch began
};

// What a run has come to, beside the model's weights and the optimizer's state.
struct RunState {
  int64_t epoch = 0, step = 0;         // the next ones
  EpochPart part = {};                 // of that epoch
  FitResult result = {};               // so far
  int64_t skipped_in_row = 0;          // of the last steps, by TrainerOptions::on_nan
  StateDict best = {};                 // the weights that were best in validation
  std::vector<StateDict> recent = {};  // those of the last TrainerOptions::average validations
};

// What a resumed run must have in common with this one: the data, and the options that what is learned
// depends on, with TrainerOptions::metadata. Plans, devices and micro-batches change it by rounding only; a
// schedule's total follows from the epochs, of which there may be more.
Metadata run_identity(const TrainerOptions& options, double lr, const data::Dataset& train,
                      const data::Dataset& valid);

// best.safetensors: the best weights. IoError when the file cannot be written.
void save_best(const std::string& file, const RunState& state, const Metadata& metadata);

// On the host, which has more memory, and where checkpoints are loaded.
StateDict host_copy(const StateDict& tensors);

// What last.safetensors is written of: the weights "model.NAME", the best ones "best.NAME" once an epoch has
// ended, the optimizer's state "optimizer.NAME", averaged weights "ema.NAME" (of an ema that is not null),
// recent weights "recent0.NAME" and on; counters and the record of epochs are metadata. `copied`: on the
// host, where no step changes them.
struct LastFile {
  StateDict tensors;  // by these names
  Metadata metadata;  // strings by theirs
};
LastFile last_file(const RunState& state, const Module& module, const Optimizer& optimizer, const Ema* ema,
                   Metadata metadata, bool copied);

// Loads last.safetensors of a run folder, or the checkpoint after so many steps, into the module, the
// optimizer and the averages and returns the rest, with stopped_early false. IoError for a file that is
// missing, damaged, no checkpoint, or one of another model or optimizer; ConfigError naming both values where
// its metadata has another one than `expected`, and naming those that there are for a step of which there is
// none. The module, the optimizer and the averages are then as before.
RunState load_last(const std::string& run_dir, Module& module, Optimizer& optimizer, Ema* ema,
                   const Metadata& expected, std::optional<int64_t> step = {});

}  // namespace tandem::nn
