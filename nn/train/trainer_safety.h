// A step of a Trainer that may come to nothing.
#pragma once

#include <cmath>

#include "nn/train/trainer.h"

namespace tandem::nn {

// A step that was begun, and the KL that was measured beside it (TrainerOptions::measure_kl), or why not.
struct Trainer::Attempt {
  StepOptions options;
  Update update = {};
  double kl = NAN;
  std::string failure = {};  // of numbers that are not finite
};

}  // namespace tandem::nn
