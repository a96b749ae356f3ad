// What fine-tuners set for parts of a model: rates of learning by depth and for the head, what does not
// learn, and from when on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/depths.h"
#include "tools/tandem/command.h"

namespace tandem::command {

// The options. By default all parameters learn alike.
struct FineTuning {
  double layer_decay = 1, head_lr = 1;
  bool decay_all = false;  // of the weights
  std::string freeze;      // patterns of names, or a number of blocks
  int64_t unfreeze_every = 0;

  void declare(Command& to);
  // The lower blocks that never learn, whose noise would change nothing but time: without it all passes share
  // what they compute.
  int64_t frozen_blocks() const { return level() > 0 ? level() : 0; }
  int64_t level() const;                      // of Depth: at and below it nothing learns; -1: all does
  std::vector<std::string> patterns() const;  // of names
};

// A model that is fine-tuned so.
class FineTuned {
 public:
  // Sets what learns in the first epoch. `depths` is asked where an option needs it. ConfigError for options
  // that do not fit the model.
  FineTuned(const FineTuning& options, nn::Module& module,
            const std::function<models::Depths(const nn::Module&)>& depths);
  // Sets which parameters learn in this epoch, from 0.
  void begin_epoch(int64_t epoch) const;
  double lr_scale(size_t parameter) const;  // of the module's parameter of this number
  bool decay_all() const { return options_.decay_all; }

 private:
  const FineTuning& options_;
  nn::Module& module_;
  models::Depths depths_;  // empty where no option needs it
};

}  // namespace tandem::command
