// What a trainer says of an epoch while it trains.
#pragma once

#include <string>

#include "nn/train/trainer.h"

namespace tandem::nn {

// "epoch  3/20", with the training's name in front; `epoch` counts from 0.
std::string epoch_label(const TrainerOptions& options, int64_t epoch);
// What the bar says of an epoch so far.
std::string progress_text(const Metrics& epoch);
// One line on an epoch; a narrow terminal gets a short one.
std::string epoch_line(const TrainerOptions& options, const Metrics& train, const Metrics& valid, bool best);

}  // namespace tandem::nn
