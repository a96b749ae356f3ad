// What the recipes of text encoders share: the model, the weights it starts from, and texts of the test
// split.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/data/text_datasets.h"
#include "tools/tandem/recipes/text_recipe.h"

namespace tandem::command {

class TextEncoderRecipe : public TextRecipe {
 public:
  void declare_model(Command& to) override;
  nn::Metadata metadata() const override { return metadata_with(config_); }

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

  // What load() says; `cut` training texts were too long.
  std::string sizes(int64_t cut) const;
  // With the weights of --init, but a head of its own.
  std::unique_ptr<models::TextEncoder> make_encoder() const;
  static models::TextEncoder& encoder(TaskModel& model) {
    return static_cast<models::TextEncoder&>(*model.module);
  }

  std::string pooling_ = "cls", init_;
  std::optional<Run> init_run_;
  models::TextEncoderConfig config_;
  std::unique_ptr<data::Dataset> test_;
};

}  // namespace tandem::command
