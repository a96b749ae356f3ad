// What the recipes of text encoders share: the model, the weights it starts from, and texts of the test
// split.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/data/text_datasets.h"
#include "tools/tandem/recipes/text_recipe.h"

namespace tandem::command {

class TextEncoderRecipe : public TextRecipe {
 public:
  void declare_model(Command& to) override;
  // With max_tokens, where texts may be longer than training's: longest_text() of text_model.h reads it.
  nn::Metadata metadata() const override;

 protected:
  TextEncoderRecipe();

  // Makes vocabulary_ and config_; before the data sets. `lines` are those of the training split.
  void set_up(const std::vector<std::string>& lines, int64_t outputs,
              const std::vector<std::string>& classes = {});

  // `training`: --long skip leaves texts out of it.
  template <class Target>
  std::unique_ptr<data::TextDataset> dataset(const std::vector<std::string>& first,
                                             const std::vector<std::string>& second, const Target& target,
                                             data::PairLayout layout = data::PairLayout::joined,
                                             bool training = false) {
    std::vector<data::Ids> ids, others;
    Target kept;
    for (size_t i = 0; i < first.size(); ++i) {
      const bool pair = !second.empty();
      data::Ids a = vocabulary_->encode(first[i]), b = pair ? vocabulary_->encode(second[i]) : data::Ids();
      const bool joined = pair && layout == data::PairLayout::joined;
      const int64_t most = longest() - vocabulary_->special().around(joined),
                    tokens = joined ? std::ssize(a) + std::ssize(b) : std::max(std::ssize(a), std::ssize(b));
      check_length(first[i], tokens, most);
      if (training && long_ == "skip" && tokens > most) {
        ++left_out_;
        continue;
      }
      ids.push_back(std::move(a)), kept.push_back(target[i]);
      if (pair) others.push_back(std::move(b));
    }
    check<ValueError>(!ids.empty(), "--long skip: no text is left: all are of more than {} tokens",
                      longest());
    return std::make_unique<data::TextDataset>(std::move(ids), std::move(others), std::move(kept), longest(),
                                               layout, vocabulary_->special());
  }

  // What load() says; `cut` training texts were too long.
  std::string sizes(int64_t cut) const;
  // With the weights of --init, but a head of its own, unless that of a published model has the same classes.
  std::unique_ptr<models::TextEncoder> make_encoder() const;
  static models::TextEncoder& encoder(TaskModel& model) {
    return static_cast<models::TextEncoder&>(*model.module);
  }

  // Ids of the longest text, with those around it.
  int64_t longest() const {
    return max_tokens_ > 0 ? std::min(max_tokens_, config_.max_positions) : config_.max_positions;
  }

  std::string pooling_ = "auto";
  int64_t max_tokens_ = 0;
  int64_t left_out_ = 0;     // of the training, by --long skip
  bool keeps_head_ = false;  // --init's
  models::TextEncoderConfig config_;
  std::unique_ptr<data::Dataset> test_;
};

}  // namespace tandem::command
