// What the recipes of text encoders share: the vocabulary, the model, and the weights it starts from.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/data/text_datasets.h"
#include "tools/tandem/recipes/text_options.h"

namespace tandem::command {

class TextEncoderRecipe : public Recipe {
 public:
  double largest_rate() const override { return model_choice_.largest_rate(); }
  const data::Dataset& train() const override { return *train_; }
  const data::Dataset& valid() const override { return *valid_; }
  void save_parts(const std::string& run) const override { vocabulary_->save(run + "/" + kVocabularyFile); }
  void declare_model(OptionAdder& to) override;

 protected:
  TextEncoderRecipe();

  // Makes vocabulary_ and config_; before the data sets. `lines` are those of the training split.
  void set_up(const std::vector<std::string>& lines, int64_t outputs);

  template <class Target>
  std::unique_ptr<data::TextDataset> dataset(const std::vector<std::string>& first,
                                             const std::vector<std::string>& second, const Target& target,
                                             data::PairLayout layout = data::PairLayout::joined) const {
    return std::make_unique<data::TextDataset>(encode_all(*vocabulary_, first),
                                               encode_all(*vocabulary_, second), target,
                                               config_.max_positions, layout);
  }

  std::string sizes(int64_t train, int64_t valid, int64_t test, int64_t cut) const;
  // With the weights of --init, but a head of its own.
  std::unique_ptr<models::TextEncoder> make_encoder() const;
  static models::TextEncoder& encoder(TaskModel& model) {
    return static_cast<models::TextEncoder&>(*model.module);
  }
  nn::Metadata common_metadata(const std::string& task) const;

  std::string data_;
  VocabularyChoice vocabulary_choice_;
  ModelChoice model_choice_;
  std::string pooling_ = "cls", init_;
  std::optional<TextRun> init_run_;
  std::optional<data::Vocabulary> vocabulary_;
  models::TextEncoderConfig config_;
  std::unique_ptr<data::Dataset> train_, valid_, test_;
};

}  // namespace tandem::command
