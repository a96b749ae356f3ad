#include <fmt/format.h>

#include <csignal>
#include <filesystem>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "autograd/profiler.h"
#include "nn/data/curves.h"
#include "nn/data/files.h"
#include "nn/optim/adam.h"
#include "nn/optim/sgd.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/train_options.h"

namespace tandem::command {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// Ctrl-C ends a run between two steps; a second one ends it at once.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &action, &old_[0]);
    sigaction(SIGTERM, &action, &old_[1]);
  }
  ~InterruptGuard() {
    sigaction(SIGINT, &old_[0], nullptr);
    sigaction(SIGTERM, &old_[1], nullptr);
  }

 private:
  struct sigaction old_[2];
};

ImageModelSpec make_spec(const TrainVit& o, const data::ImageSet& train,
                         const data::Normalization& normalization) {
  check<ConfigError>(train.height == train.width,
                     "--data: expected square images, got {}x{} (width x height)", train.width, train.height);
  check<ConfigError>(train.classes.size() > 1, "--data: expected at least 2 classes, got '{}' alone",
                     train.classes.at(0));
  ImageModelSpec spec{.config = {}, .classes = train.classes, .normalization = normalization, .data = o.data};
  const auto classes = static_cast<int64_t>(train.classes.size());
  if (o.model == "cnn") {
    spec.config = models::CnnConfig{train.height, train.channels, classes, o.width, o.dropout};
    return spec;
  }
  models::VitConfig c = models::vit_preset(o.preset);
  c.image_size = train.height, c.channels = train.channels, c.classes = classes;
  auto override_size = [](int64_t& size, int64_t wanted) { size = wanted != 0 ? wanted : size; };
  override_size(c.patch_size, o.patch_size), override_size(c.dim, o.dim), override_size(c.depth, o.depth);
  override_size(c.heads, o.heads), override_size(c.mlp_dim, o.mlp_dim);
  c.dropout = o.dropout, c.attention_dropout = o.attention_dropout, c.drop_path = o.drop_path;
  check<ConfigError>(o.dropout_from < c.depth, "--dropout-from: expected a block below the depth {}, got {}",
                     c.depth, o.dropout_from);
  c.dropout_from = o.dropout_from, c.zero_head = o.zero_head;
  spec.config = c;
  return spec;
}

std::unique_ptr<nn::Optimizer> make_optimizer(const TrainVit& o, const nn::Module& module) {
  // Weight decay is for matrices: not for biases, norms, the class token or positions.
  Tensors matrices, rest;
  for (const auto& [name, parameter] : module.named_parameters()) {
    (parameter.dim() >= 2 && name.ends_with("weight") ? matrices : rest).push_back(parameter);
  }
  const std::vector<nn::ParameterGroup> groups{{matrices, {.weight_decay = o.weight_decay}},
                                               {rest, {.weight_decay = 0}}};
  if (o.optimizer == "adamw") return std::make_unique<nn::AdamW>(groups, nn::AdamWOptions{.lr = o.lr});
  if (o.optimizer == "adam") return std::make_unique<nn::Adam>(groups, nn::AdamOptions{.lr = o.lr});
  return std::make_unique<nn::SGD>(groups, nn::SGDOptions{.lr = o.lr, .momentum = o.momentum});
}

struct Outcome {
  std::string name;
  int passes;
  nn::FitResult fit;
  nn::Metrics test;  // of the weights that were best on the validation images
};

bool has_checkpoint(const std::string& run) { return std::filesystem::exists(run + "/" + nn::kLastFile); }

// Trains one model into `run`.
Outcome train_one(const TrainVit& o, const ImageModelSpec& spec, const data::Dataset& train,
                  const data::Dataset& valid, const data::Dataset& test, const std::string& run, int passes) {
  const std::string name = passes > 1 ? "R-Drop" : "plain";
  nn::InitScope init({.seed = o.trainer.seed});
  ImageModel model(spec);
  const auto optimizer = make_optimizer(o, *model.module);
  nn::TrainerOptions options = trainer_options(o, train.size());
  options.passes = passes;
  if (passes == 1 && o.compare) options.rates.clear();
  options.run_dir = run;
  options.name = o.compare ? fmt::format("{:<6}", name) : "";
  options.metadata = to_metadata(spec);
  nn::Trainer trainer(*model.objective, *optimizer, options);
  int64_t steps = 0;
  trainer.on_step = [&](const nn::Metrics& now) {
    steps = now.step;
    if (interrupted != 0)
      raise<Interrupted>("stopped after step {}; `tandem train vit --run {} --resume` goes on", steps, o.run);
  };
  nn::FitResult fit;
  try {
    fit = has_checkpoint(run) && o.resume ? trainer.resume(train, valid) : trainer.fit(train, valid);
  } catch (const ValueError& error) {
    raise<ValueError>("training failed after step {}: {}", steps, error.what());
  }
  return {name, passes, std::move(fit), nn::evaluate(*model.objective, test)};
}

// The first o.limit training images (0: all), and others of them, held out by lot, to validate on.
std::pair<data::Indices, data::Indices> split(const TrainVit& o, int64_t count) {
  const int64_t valid = o.valid > 0 ? o.valid : std::clamp<int64_t>(count / 10, 1, 2000);
  check<ConfigError>(valid < count, "--valid: expected fewer than the {} training images, got {}", count,
                     valid);
  check<ConfigError>(o.limit + valid <= count,
                     "--limit: expected at most {}, the {} training images without {} for validation, got {}",
                     count - valid, count, valid, o.limit);
  data::Indices train, held_out;
  for (int64_t i : permutation(noise_key(0, 0, site_hash("validation"), 0, Purpose::shuffle), count)) {
    if (i >= o.limit && static_cast<int64_t>(held_out.size()) < valid) {
      held_out.push_back(i);
    } else if (o.limit == 0 || i < o.limit) {
      train.push_back(i);
    }
  }
  return {std::move(train), std::move(held_out)};
}

// A run folder is only written to by its own run. What --overwrite replaces goes first, so that no file of
// another run is left.
void claim_run_folder(const TrainVit& o) {
  namespace fs = std::filesystem;
  check<ConfigError>(!fs::exists(o.run) || fs::is_directory(o.run), "--run: '{}' is not a folder", o.run);
  nn::make_run_folder(o.run);
  if (o.resume) return;
  for (const auto& entry : fs::directory_iterator(o.run)) {
    const std::string name = entry.path().filename().string();
    check<ConfigError>(o.overwrite || name == kSettingsFile,
                       "--run: '{}' is not empty; give another folder, or --resume or --overwrite", o.run);
  }
  for (const char* part : {"plain", "rdrop", "."}) {
    for (const char* name : {nn::kMetricsFile, nn::kBestFile, nn::kLastFile, "curves.png", "curves.gp"}) {
      fs::remove(fs::path(o.run) / part / name);
    }
  }
}

void draw(const std::vector<data::CurveRun>& runs, const std::string& run) {
  if (!data::draw_curves(runs, run + "/curves.png", "Tandem: " + run)) {
    fmt::print(stderr, "No curves were drawn: gnuplot is not installed (Debian: gnuplot-nox).\n");
  }
}

void train_vit(const TrainVit& o, const CLI::App& command) {
  check_options(o);
  if (o.threads > 0) set_num_threads(o.threads);

  data::ImageSplits images = read_images(o.data);
  const data::Normalization normalization = data::measure_normalization(images.train);
  const ImageModelSpec spec = make_spec(o, images.train, normalization);
  const data::ImageDataset all(std::move(images.train), normalization, o.augmentation);
  const auto [train_indices, valid_indices] = split(o, all.size());
  const data::ImageDataset train = all.subset(train_indices), valid = all.subset(valid_indices);
  const data::ImageDataset test(std::move(images.test), normalization);
  {
    const ImageModel model(spec);  // whatever is wrong shows before the folder is touched
    const auto optimizer = make_optimizer(o, *model.module);
    nn::TrainerOptions options = trainer_options(o, train.size());
    options.run_dir = o.run;
    nn::Trainer trainer(*model.objective, *optimizer, options);
    if (o.resume && has_checkpoint(o.run)) trainer.restore();
    claim_run_folder(o);
    data::write_file(o.run + "/" + kSettingsFile,
                     to_config(command, {"config", "resume", "overwrite", "profile", "quiet"}));
    if (!o.quiet) {
      fmt::print(
          stderr,
          "{} of {} parameters, {} threads\n{} training, {} validation and {} test images of {} classes\n",
          o.model, model.module->num_parameters(), num_threads(), train.size(), valid.size(), test.size(),
          spec.classes.size());
    }
  }

  const InterruptGuard guard;
  std::unique_ptr<Profiler> profiler = o.profile ? std::make_unique<Profiler>() : nullptr;
  std::vector<Outcome> rows;
  std::vector<data::CurveRun> curves;
  auto train_into = [&](const std::string& run, int passes) {
    rows.push_back(train_one(o, spec, train, valid, test, run, passes));
    curves.push_back({rows.back().name, run + "/" + nn::kMetricsFile});
  };
  if (o.compare) train_into(o.run + "/plain", 1);
  train_into(o.compare ? o.run + "/rdrop" : o.run, o.trainer.passes);
  draw(curves, o.run);

  fmt::print("\n{:<8} {:>6} {:>6} {:>14} {:>8} {:>15} {:>7} {:>8}\n", "training", "passes", "alpha",
             "test accuracy", "test CE", "valid accuracy", "epoch", "time");
  for (const auto& [name, passes, fit, tested] : rows) {
    double seconds = 0;
    for (size_t i = 0; i < fit.valid.size(); ++i) seconds += fit.train[i].seconds + fit.valid[i].seconds;
    fmt::print("{:<8} {:>6} {:>6} {:>13.2f}% {:>8.4f} {:>14.2f}% {:>7} {:>7.1f}s\n", name, passes,
               passes == 1 ? "-" : fmt::format("{}", o.trainer.alpha), 100 * tested.accuracy, tested.ce,
               100 * fit.best().accuracy, fit.best_epoch + 1, seconds);
  }
  fmt::print("Run folder: {}\n", o.run);
  if (profiler) fmt::print("\n{}", profiler->table());
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* train = app.add_subcommand("train", "train a bundled model");
  train->require_subcommand(1);
  CLI::App* vit =
      train->add_subcommand("vit", "image classification: a ViT (or a small CNN), plain or with R-Drop");
  auto options = std::make_shared<TrainVit>();
  declare(*vit, *options);
  vit->callback([options, vit] {
    if (!options->resume) return train_vit(*options, *vit);
    CLI::App merged;
    TrainVit resumed;
    declare_resumed(*options, *vit, merged, resumed);
    train_vit(resumed, merged);
  });
}

}  // namespace tandem::command
