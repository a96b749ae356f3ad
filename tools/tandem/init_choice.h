// --init with a published model: what every recipe that takes one shares.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/pretrained/pretrained.h"
#include "nn/data/normalization.h"
#include "tools/tandem/command.h"

namespace tandem::command {

class InitChoice {
 public:
  // --init and --init-allow; `families` are those that the recipe takes, `runs` the other things it may name.
  void declare(Command& to, const std::string& families, const std::string& runs = "");

  void find_options(const Command& command);  // --lr, whose default is lower over pretrained weights

  const std::string& path() const { return path_; }
  bool empty() const { return path_.empty(); }
  // Whether it names a published model, not a run.
  bool published() const;
  // Reads that model. IoError, ConfigError.
  const models::Pretrained& open();
  const models::Pretrained& model() const { return *model_; }
  // What the model says of pixels, or `otherwise` where it says nothing. ConfigError for other channels.
  data::Normalization model_mean_or(data::Normalization otherwise, int64_t channels) const;
  // Whether the published model's classes have these names: fill() then keeps its head, whose rows it puts
  // into this order.
  bool keeps_head(const std::vector<std::string>& classes);
  // Fills a module with its weights, and returns a table of what was loaded, is new, unused, or does not fit.
  std::string fill(nn::Module& module, bool new_head) const;
  // That table on a line of its own, of a model of this configuration; "" where nothing published is named.
  template <class Model, class Config> std::string table(const Config& config, bool new_head) const {
    if (!published()) return {};
    Model model(config);
    return "\n" + fill(model, new_head);
  }

 private:
  std::string path_, allow_;
  std::vector<std::string> classes_;  // of keeps_head()
  Option lr_;
  std::optional<models::Pretrained> model_;
};

}  // namespace tandem::command
