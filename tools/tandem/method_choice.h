// --method: R-Drop, or one of the regularizers it is compared with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/methods/methods.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

// The option, and the passes and alpha that a method has where the user gives none.
class MethodChoice {
 public:
  std::string name = "rdrop";

  void declare(Command& to, const std::vector<std::string>& methods, const std::string& about);
  // Sets the passes and alpha that are not given; they are then in the run's settings too. Not for rdrop.
  void settle(int passes);
  // ConfigError for passes, an alpha or --compare that are another method's. passes 0: several; which a
  // method that `compares` them takes an alpha for.
  void check_settings(const TrainSettings& settings, int passes, bool compares = false) const;
  std::string training_name(int passes) const;  // of a run in the report

 private:
  Option passes_, alpha_;
};

// Of classifiers.
class ClassifierMethod : public MethodChoice {
 public:
  void declare(Command& to, bool images = false);  // with those of images alone
  void settle();
  // `class_weights`: of make_class_weights.
  std::unique_ptr<nn::Objective> make(const nn::Hookable& model, const TrainSettings& settings,
                                      const Tensor& class_weights = {}) const;

 private:
  nn::MethodOptions options_;
};

}  // namespace tandem::command
