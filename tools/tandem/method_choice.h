// --method: R-Drop, or one of the regularizers it is judged by.
#pragma once

#include <memory>
#include <string>

#include "nn/train/methods.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

struct MethodChoice {
  std::string name = "rdrop";
  nn::MethodOptions options;

  void declare(OptionAdder& to);
  // ConfigError for passes, an alpha or --compare that are another method's.
  std::unique_ptr<nn::Objective> make(const nn::Hookable& model, const TrainSettings& settings) const;
  std::string training_name(int passes) const;  // of a run in the report
};

}  // namespace tandem::command
