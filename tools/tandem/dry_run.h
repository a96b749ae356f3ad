// `tandem train TASK --dry-run`: what a run would take.
#pragma once

#include "nn/train/trainer.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {

// Prints the model's parameters by module, the steps of the run, and of each plan the time and the memory of
// some steps on the first batches. Nothing is written. `options`: of the training. Models are made on the
// device of the current InitScope.
void print_dry_run(const Recipe& recipe, const nn::TrainerOptions& options);

}  // namespace tandem::command
