// --method: R-Drop, or one of the regularizers it is judged by.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/transformer/text_encoder.h"
#include "nn/methods/methods.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

// The option, and the passes and alpha that a method has where the user gives none.
class MethodOption {
 public:
  std::string name = "rdrop";

  void declare(OptionAdder& to, const std::vector<std::string>& methods, const std::string& about);
  // Sets the passes and alpha that are not given; they are then in the run's settings too.
  void settle(TrainSettings& settings, int passes);
  // ConfigError for passes, an alpha or --compare that are another method's. passes 0: several.
  void check_settings(const TrainSettings& settings, int passes) const;
  std::string training_name(int passes) const;  // of a run in the report

 private:
  CLI::Option *passes_ = nullptr, *alpha_ = nullptr;
};

// Of classifiers.
class MethodChoice : public MethodOption {
 public:
  void declare(OptionAdder& to);
  void settle(TrainSettings& settings);
  std::unique_ptr<nn::Objective> make(const nn::Hookable& model, const TrainSettings& settings) const;

 private:
  nn::MethodOptions options_;
};

// Of sentence embeddings.
class SimilarityMethodChoice : public MethodOption {
 public:
  double positive = 4;  // score from which a pair is alike

  void declare(OptionAdder& to);
  void settle(TrainSettings& settings);
  std::unique_ptr<nn::Objective> make(models::TextEncoder& model, const TrainSettings& settings) const;

 private:
  double temperature_ = 0.05;
};

}  // namespace tandem::command
