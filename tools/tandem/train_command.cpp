#include <fmt/format.h>

#include <filesystem>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "autograd/profiler.h"
#include "nn/data/curves.h"
#include "nn/data/files.h"
#include "nn/data/text.h"
#include "nn/optim/adam.h"
#include "nn/optim/sgd.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/image_model.h"

namespace tandem::command {
namespace {

// Every option of `tandem train vit`, with its default.
struct TrainVit {
  std::string data = "fashion-mnist", run = "runs/vit", model = "vit", preset = "tiny";
  int64_t limit = 0, valid = 0;
  bool overwrite = false, resume = false, compare = false, profile = false, quiet = false;

  int64_t patch_size = 0, dim = 0, depth = 0, heads = 0, mlp_dim = 0, dropout_from = 0, width = 32;
  double dropout = 0.1, attention_dropout = 0, drop_path = 0;
  bool zero_head = false;

  nn::TrainerOptions trainer{.epochs = 20, .clip_norm = 1};
  std::string plan = "stacked", alpha_schedule = "constant", schedule = "cosine", optimizer = "adamw";
  double lr = 1e-3, weight_decay = 0.05, momentum = 0.9;
  int64_t warmup = 0, decay_steps = 0;
  data::Augmentation augmentation;
  int threads = 0;
  std::string device = "auto";
};

void declare(CLI::App& command, TrainVit& o) {
  auto group = [&command](const char* name, CLI::Option* option) {
    return option->group(name)->capture_default_str();
  };
  auto data = [&](CLI::Option* option) { return group("Data", option); };
  data(command.add_option("--data", o.data,
                          "fashion-mnist, a folder of IDX files, or a folder with train/ and test/"));
  data(command.add_option("--limit", o.limit, "train on the first N images only (0: all)"))
      ->check(CLI::NonNegativeNumber);
  data(command.add_option("--valid", o.valid,
                          "training images held out for validation (0: a tenth, at most 2,000)"))
      ->check(CLI::NonNegativeNumber);
  data(command.add_option("--crop-padding", o.augmentation.crop_padding,
                          "augment by random crops of padded images"));
  command.add_flag("--flip", o.augmentation.flip, "augment by left-right flips")->group("Data");

  auto rdrop = [&](CLI::Option* option) { return group("R-Drop", option); };
  rdrop(command.add_option("--passes", o.trainer.passes, "passes m of each batch; 1 trains plainly"));
  rdrop(command.add_option("--alpha", o.trainer.alpha, "weight of the KL term, in the paper's units"));
  rdrop(command.add_option("--alpha-schedule", o.alpha_schedule,
                           "constant, warmup, or lr (in proportion to it)"));
  rdrop(command.add_option("--alpha-warmup", o.trainer.alpha_warmup, "steps of alpha's linear warm-up"));
  rdrop(command.add_option("--rates", o.trainer.rates, "a dropout rate per pass: 0.1,0.2,0.3"))
      ->delimiter(',');
  rdrop(command.add_option("--rate-scale", o.trainer.rate_scale, "multiplies every dropout rate"));
  rdrop(command.add_option("--rdrop-every", o.trainer.rdrop_every,
                           "R-Drop at every k-th step, one plain pass between"));
  rdrop(command.add_option("--plan", o.plan, "stacked, sequential, or replay (memory of one pass)"));
  command.add_flag("--compare", o.compare, "train plainly as well, and report both")->group("R-Drop");

  auto model = [&](CLI::Option* option) { return group("Model", option); };
  model(command.add_option("--model", o.model, "vit or cnn"));
  model(command.add_option(
      "--preset", o.preset,
      "sizes of the ViT: " + data::join(models::vit_preset_names(), ", ")));
  model(command.add_option("--patch-size", o.patch_size, "pixels (0: the preset's)"));
  model(command.add_option("--dim", o.dim, "width (0: the preset's)"));
  model(command.add_option("--depth", o.depth, "blocks (0: the preset's)"));
  model(command.add_option("--heads", o.heads, "attention heads (0: the preset's)"));
  model(command.add_option("--mlp-dim", o.mlp_dim, "hidden width of the MLP (0: the preset's)"));
  model(command.add_option("--width", o.width, "channels of the CNN's first block"));
  model(command.add_option("--dropout", o.dropout, "rate of every dropout, in [0, 1)"));
  model(
      command.add_option("--attention-dropout", o.attention_dropout, "rate on the attention probabilities"));
  model(command.add_option("--drop-path", o.drop_path, "stochastic depth of the last block"));
  model(command.add_option("--dropout-from", o.dropout_from,
                           "first block with noise: passes share those below"));
  command.add_flag("--zero-head", o.zero_head, "start the head at zero")->group("Model");

  auto training = [&](CLI::Option* option) { return group("Training", option); };
  training(command.add_option("--epochs", o.trainer.epochs, "epochs"));
  training(command.add_option("--batch-size", o.trainer.batch_size, "images of an optimizer step"));
  training(command.add_option("--accumulate", o.trainer.accumulate, "micro-batches it is cut into"));
  training(command.add_option("--optimizer", o.optimizer, "adamw, adam or sgd"));
  training(command.add_option("--lr", o.lr, "learning rate"));
  training(command.add_option("--schedule", o.schedule, "constant, cosine, linear, inverse_sqrt or step"));
  training(command.add_option("--warmup", o.warmup, "steps of linear warm-up"));
  training(command.add_option("--decay-steps", o.decay_steps,
                              "step schedule: a tenth of the rate every N steps (0: a third of all)"));
  training(command.add_option("--weight-decay", o.weight_decay, "weight decay (of matrices only)"));
  training(command.add_option("--momentum", o.momentum, "momentum of sgd"));
  training(command.add_option("--clip-norm", o.trainer.clip_norm, "largest norm of the gradient (0: any)"));
  training(command.add_option("--label-smoothing", o.trainer.label_smoothing, "label smoothing, in [0, 1)"));
  training(command.add_option("--patience", o.trainer.patience,
                              "stop after N epochs without a better accuracy (0: never)"));
  training(command.add_option("--seed", o.trainer.seed, "seed of weights, order, noise and augmentation"));

  auto run = [&](CLI::Option* option) { return group("Run", option); };
  run(command.add_option("--run", o.run, "folder for metrics, checkpoints, settings and curves"));
  run(command.add_option("--device", o.device, "auto or cpu"));
  run(command.add_option("--threads", o.threads, "threads (0: all cores)"))->check(CLI::NonNegativeNumber);
  command.add_flag("--overwrite", o.overwrite, "replace the files of an earlier run in that folder")
      ->group("Run");
  command.add_flag("--resume", o.resume, "go on where the run in that folder stopped")->group("Run");
  command.add_flag("--profile", o.profile, "print time and bytes per op")->group("Run");
  command.add_flag("--quiet", o.quiet, "no progress")->group("Run");
}

ImageModelSpec make_spec(const TrainVit& o, const data::ImageSet& train,
                         const data::Normalization& normalization) {
  check<ConfigError>(train.height == train.width, "data: expected square images, got {}x{}", train.width,
                     train.height);
  ImageModelSpec spec{.config = {}, .classes = train.classes, .normalization = normalization, .data = o.data};
  const auto classes = static_cast<int64_t>(train.classes.size());
  if (o.model == "cnn") {
    spec.config = models::CnnConfig{train.height, train.channels, classes, o.width, o.dropout};
    return spec;
  }
  check<ConfigError>(o.model == "vit", "model: expected vit or cnn, got '{}'", o.model);
  models::VitConfig c = models::vit_preset(o.preset);
  c.image_size = train.height, c.channels = train.channels, c.classes = classes;
  auto override_size = [](int64_t& size, int64_t wanted) { size = wanted != 0 ? wanted : size; };
  override_size(c.patch_size, o.patch_size), override_size(c.dim, o.dim), override_size(c.depth, o.depth);
  override_size(c.heads, o.heads), override_size(c.mlp_dim, o.mlp_dim);
  c.dropout = o.dropout, c.attention_dropout = o.attention_dropout, c.drop_path = o.drop_path;
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
  check<ConfigError>(o.optimizer == "sgd", "optimizer: expected adamw, adam or sgd, got '{}'", o.optimizer);
  return std::make_unique<nn::SGD>(groups, nn::SGDOptions{.lr = o.lr, .momentum = o.momentum});
}

struct Outcome {
  std::string name;
  int passes;
  nn::FitResult fit;
  nn::Metrics test;  // of the weights that were best on the validation images
};

// Trains one model into `run`.
Outcome train_one(const TrainVit& o, const ImageModelSpec& spec, const data::Dataset& train,
                  const data::Dataset& valid, const data::Dataset& test, const std::string& run, int passes) {
  const std::string name = passes > 1 ? "R-Drop" : "plain";
  nn::InitScope init({.seed = o.trainer.seed});
  ImageModel model(spec);
  const auto optimizer = make_optimizer(o, *model.module);
  nn::TrainerOptions options = o.trainer;
  const int64_t steps = options.epochs * ((train.size() + options.batch_size - 1) / options.batch_size);
  options.schedule = nn::Schedule::parse(
      o.schedule, {.warmup = o.warmup,
                   .total = steps,
                   .step_size = o.decay_steps > 0 ? o.decay_steps : std::max<int64_t>(1, steps / 3)});
  options.passes = passes;
  if (passes == 1 && o.compare) options.rates.clear();
  options.plan = nn::parse_plan(o.plan);
  options.alpha_schedule = nn::parse_alpha_schedule(o.alpha_schedule);
  options.run_dir = run;
  options.name = o.compare ? fmt::format("{:<6}", name) : "";
  options.unit = "images";
  options.progress = !o.quiet;
  options.metadata = to_metadata(spec);
  nn::Trainer trainer(*model.objective, *optimizer, options);
  nn::FitResult fit = o.resume ? trainer.resume(train, valid) : trainer.fit(train, valid);
  return {name, passes, std::move(fit), nn::evaluate(*model.objective, test)};
}

// The first o.limit training images (0: all), and others of them, held out by lot, to validate on.
std::pair<data::Indices, data::Indices> split(const TrainVit& o, int64_t count) {
  const int64_t valid = o.valid > 0 ? o.valid : std::clamp<int64_t>(count / 10, 1, 2000);
  check<ConfigError>(o.limit + valid <= count && valid < count,
                     "limit: {} images to train on and {} to validate on, of {}", o.limit, valid, count);
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

// A run folder is only written to by its own run.
void claim_run_folder(const TrainVit& o) {
  namespace fs = std::filesystem;
  if (o.resume) return;
  check<ConfigError>(o.overwrite || !fs::exists(o.run) || fs::is_empty(o.run),
                     "run: '{}' is there already; give another --run, or --resume or --overwrite", o.run);
  nn::make_run_folder(o.run);
}

void draw(const std::vector<data::CurveRun>& runs, const std::string& run) {
  if (!data::draw_curves(runs, run + "/curves.png", "Tandem: " + run)) {
    fmt::print(stderr, "No curves were drawn: gnuplot is not installed (Debian: gnuplot-nox).\n");
  }
}

void train_vit(const TrainVit& o, const CLI::App& command) {
  check<ConfigError>(o.device == "auto" || o.device == "cpu", "device: expected auto or cpu, got '{}'",
                     o.device);
  check<ConfigError>(!(o.compare && o.resume), "resume: a comparison cannot be resumed");
  check<ConfigError>(!o.compare || o.trainer.passes > 1, "compare: expected --passes of at least 2, got {}",
                     o.trainer.passes);
  nn::parse_plan(o.plan);  // before anything is written
  if (o.threads > 0) set_num_threads(o.threads);

  data::ImageSplits images = read_images(o.data);
  const data::Normalization normalization = data::measure_normalization(images.train);
  const ImageModelSpec spec = make_spec(o, images.train, normalization);
  const data::ImageDataset all(std::move(images.train), normalization, o.augmentation);
  const auto [train_indices, valid_indices] = split(o, all.size());
  const data::ImageDataset train = all.subset(train_indices), valid = all.subset(valid_indices);
  const data::ImageDataset test(std::move(images.test), normalization);
  {
    const ImageModel model(spec);  // its errors come before the folder is touched
    nn::Trainer check_options(*model.objective, *make_optimizer(o, *model.module), o.trainer);
    claim_run_folder(o);
    data::write_file(o.run + "/settings.toml", command.config_to_str(true, false));
    if (!o.quiet) {
      fmt::print(
          stderr,
          "{} of {} parameters; {} training, {} validation and {} test images of {} classes; {} threads\n",
          o.model, model.module->num_parameters(), train.size(), valid.size(), test.size(),
          spec.classes.size(), num_threads());
    }
  }

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
  vit->callback([options, vit] { train_vit(*options, *vit); });
}

}  // namespace tandem::command
