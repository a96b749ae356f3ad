#include "tools/tandem/init_choice.h"

#include <fmt/format.h>

#include <filesystem>

#include "autograd/error.h"
#include "nn/train/run_folder.h"

namespace tandem::command {

namespace fs = std::filesystem;

void InitChoice::declare(Command& to, const std::string& families, const std::string& runs) {
  to.option("--init", path_, anything(),
            fmt::format(
                "start from published weights, at a --lr of 0.0001: the folder of a {} with config.json and "
                "model.safetensors{}",
                families, runs));
  to.option(
      "--init-allow", allow_, anything(),
      "names of weights that may be missing, or of another shape, in --init's: a pattern such as \"head.*\"");
}

void InitChoice::find_options(const Command& command) { lr_ = command.find("--lr"); }

bool InitChoice::published() const {
  const fs::path path(path_);
  return !path_.empty() && (!fs::is_directory(path) || !fs::exists(path / nn::kBestFile)) &&
         (fs::is_directory(path)
              ? fs::exists(path / "config.json") || fs::exists(path / "pytorch_model.bin")
              : fs::exists(path.parent_path() / "config.json") || path.extension() != ".safetensors");
}

const models::Pretrained& InitChoice::open() {
  try {
    model_ = models::open_pretrained(path_);
  } catch (const Error& error) {
    raise<ConfigError>("--init: {}", error.what());
  }
  constexpr double kFineTuning = 1e-4;
  lr_.default_to(kFineTuning);
  return *model_;
}

data::Normalization InitChoice::model_mean_or(data::Normalization otherwise, int64_t channels) const {
  if (!model_ || model_->mean.empty()) {
    otherwise.mean.resize(channels, otherwise.mean.front()),
        otherwise.stddev.resize(channels, otherwise.stddev.front());
    return otherwise;
  }
  check<ConfigError>(std::ssize(model_->mean) == channels && std::ssize(model_->stddev) == channels,
                     "--init: '{}' has the mean of {} channels, its model {}", path_, model_->mean.size(),
                     channels);
  return {model_->mean, model_->stddev};
}

bool InitChoice::keeps_head(const std::vector<std::string>& classes) {
  classes_ = classes;
  return !classes.empty() && models::same_classes(model_->labels, classes);
}

std::string InitChoice::fill(nn::Module& module, bool new_head) const {
  nn::Loaded loaded;
  try {
    loaded = models::load_pretrained(module, *model_,
                                     {.allow = allow_, .new_head = new_head, .classes = classes_});
  } catch (const ConfigError& error) {
    raise<ConfigError>("--init: {}\nhint: --init-allow PATTERN leaves those whose names it fits as they are",
                       error.what());
  }
  std::string table = fmt::format("Weights of {} ({})", model_->folder, model_->family);
  for (const char* state : {"loaded", "new", "unused", "mismatched"}) {
    constexpr int kShown = 4;
    int count = 0;
    std::string names;
    for (const nn::Loaded::Line& line : loaded.lines) {
      if (line.state != state) continue;
      if (++count <= kShown) names += fmt::format("{}{}", names.empty() ? "" : ", ", line.name);
    }
    if (count > kShown) names += fmt::format(" and {} more", count - kShown);
    if (count > 0)
      table += fmt::format("\n  {:<10} {:>4}  {}", state, count, state == std::string("loaded") ? "" : names);
    while (table.back() == ' ') table.pop_back();
  }
  return table;
}

}  // namespace tandem::command
