// The options of `tandem train vit`.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "nn/data/image_dataset.h"
#include "nn/train/trainer.h"

namespace tandem::command {

inline constexpr const char* kSettingsFile = "settings.toml";  // in a run folder: the options as used

// Every option, with its default.
struct TrainVit {
  std::string data = "fashion-mnist", run = "runs/vit", model = "vit", preset = "tiny";
  int64_t limit = 0, valid = 0;
  bool overwrite = false, resume = false, compare = false, profile = false, quiet = false;

  int64_t patch_size = 0, dim = 0, depth = 0, heads = 0, mlp_dim = 0, dropout_from = 0, width = 32;
  double dropout = 0.1, attention_dropout = 0, drop_path = 0;
  bool zero_head = false;

  nn::TrainerOptions trainer{.epochs = 20, .clip_norm = 1};
  std::string plan = "stacked", precision = "f32", alpha_schedule = "constant", schedule = "cosine",
              optimizer = "adamw";
  double lr = 1e-3, weight_decay = 0.05, momentum = 0.9;
  int64_t warmup = 0, decay_steps = 0;
  data::Augmentation augmentation;
  int threads = 0;
  std::string device = "auto";
};

// Adds the options to a command; their values end up in `o`.
void declare(CLI::App& command, TrainVit& o);

// For a run that goes on: adds the options to `merged`, with the values in the settings.toml of o.run, except
// those given for `command`. ConfigError when the folder has no settings, or none that can be used.
void declare_resumed(const TrainVit& o, const CLI::App& command, CLI::App& merged, TrainVit& result);

// ConfigError for values that do not fit each other.
void check_options(const TrainVit& o);

// `o` as the trainer takes it, for `images` of training data; without the run's folder and name.
nn::TrainerOptions trainer_options(const TrainVit& o, int64_t images);

}  // namespace tandem::command
