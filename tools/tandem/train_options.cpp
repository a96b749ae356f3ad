#include "tools/tandem/train_options.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "autograd/error.h"
#include "models/vit/vit.h"
#include "nn/data/text.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/options.h"

namespace tandem::command {
namespace {

CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& text) { return text.empty() ? "expected a name, got ''" : ""; },
                        "");
}

}  // namespace

void declare(CLI::App& command, TrainVit& o) {
  command.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  std::string group;
  auto add = [&](const char* name, auto& value, const CLI::Validator& check, const std::string& description) {
    return command.add_option(name, value, description)->check(check)->group(group)->capture_default_str();
  };
  auto flag = [&](const char* name, bool& value, const char* description) {
    command.add_flag(name, value, description)->group(group);
  };

  group = "Data";
  add("--data", o.data, not_empty(),
      "fashion-mnist, a folder of IDX files, or a folder with train/ and test/, each with one folder of PNG "
      "files per class");
  add("--limit", o.limit, integer(0), "train on the first N images only; 0: on all");
  add("--valid", o.valid, integer(0), "training images held out for validation; 0: a tenth, at most 2000");
  add("--crop-padding", o.augmentation.crop_padding, integer(0),
      "augmentation: random crops of images padded by so many pixels");
  flag("--flip", o.augmentation.flip, "augmentation: random left-right flips");

  group = "R-Drop";
  add("--passes", o.trainer.passes, integer(1, nn::kMaxPasses),
      "m, the forward passes of each batch; 1: plain training");
  add("--alpha", o.trainer.alpha, non_negative(), "weight of the KL term, in the paper's units");
  add("--alpha-schedule", o.alpha_schedule, one_of({"constant", "warmup", "lr"}),
      "constant, warmup (linear, see --alpha-warmup), or lr (in proportion to the learning rate)");
  add("--alpha-warmup", o.trainer.alpha_warmup, integer(0), "steps of alpha's linear warm-up");
  add("--rates", o.trainer.rates, fraction(),
      "dropout rate of each pass, one for each: 0.1,0.2,0.3; without: --dropout for all")
      ->delimiter(',');
  add("--rate-scale", o.trainer.rate_scale, non_negative(), "multiplies every dropout rate");
  add("--rdrop-every", o.trainer.rdrop_every, integer(1),
      "m passes at every k-th step, one plain pass at the others");
  add("--plan", o.plan, one_of({"stacked", "sequential", "replay"}),
      "how the passes run: stacked, sequential, or replay (the activation memory of one pass)");
  flag("--compare", o.compare, "train plainly first, then with R-Drop, and report both");

  group = "Model";
  add("--model", o.model, one_of({"vit", "cnn"}), "vit or cnn");
  add("--preset", o.preset, one_of(models::vit_preset_names()),
      "sizes of the ViT: " + data::join(models::vit_preset_names(), ", "));
  add("--patch-size", o.patch_size, integer(0, 1 << 20), "side of a patch in pixels; 0: the preset's");
  add("--dim", o.dim, integer(0, 1 << 20), "embedding width; 0: the preset's");
  add("--depth", o.depth, integer(0, 10'000), "encoder blocks; 0: the preset's");
  add("--heads", o.heads, integer(0, 1 << 20), "attention heads; 0: the preset's");
  add("--mlp-dim", o.mlp_dim, integer(0, 1 << 20), "hidden width of the MLP; 0: the preset's");
  add("--width", o.width, integer(1, 1 << 20), "channels of the CNN's first block");
  add("--dropout", o.dropout, fraction(), "dropout rate");
  add("--attention-dropout", o.attention_dropout, fraction(), "dropout rate of attention probabilities");
  add("--drop-path", o.drop_path, fraction(), "stochastic depth: the last block's rate");
  add("--dropout-from", o.dropout_from, integer(0, 10'000),
      "first block with noise; those below run once for all passes");
  flag("--zero-head", o.zero_head, "start the classification head at zero");

  group = "Training";
  add("--epochs", o.trainer.epochs, integer(1, 1'000'000), "epochs");
  add("--batch-size", o.trainer.batch_size, integer(1), "images of an optimizer step");
  add("--accumulate", o.trainer.accumulate, integer(1), "micro-batches that a batch is cut into");
  add("--precision", o.precision, one_of({"f32", "bf16"}),
      "f32, or bf16: products in bf16; weights, sums and losses in f32");
  add("--optimizer", o.optimizer, one_of({"adamw", "adam", "sgd"}), "adamw, adam or sgd");
  add("--lr", o.lr, non_negative(), "learning rate");
  add("--schedule", o.schedule, one_of({"constant", "cosine", "linear", "inverse_sqrt", "step"}),
      "of the learning rate: constant, cosine, linear, inverse_sqrt or step");
  add("--warmup", o.warmup, integer(0), "steps of the learning rate's linear warm-up");
  add("--decay-steps", o.decay_steps, integer(0),
      "step schedule: a tenth of the rate every N steps; 0: every third of the run");
  add("--weight-decay", o.weight_decay, non_negative(), "weight decay, of matrices only");
  add("--momentum", o.momentum, fraction(), "momentum of sgd");
  add("--clip-norm", o.trainer.clip_norm, non_negative(), "largest norm of the whole gradient; 0: any");
  add("--label-smoothing", o.trainer.label_smoothing, fraction(), "label smoothing");
  add("--patience", o.trainer.patience, integer(0),
      "stop after N epochs without a better validation accuracy; 0: never");
  add("--seed", o.trainer.seed, integer(0, INT64_MAX), "seed of weights, order, noise and augmentation");

  group = "Run";
  add("--run", o.run, not_empty(), "folder for metrics, checkpoints, settings and curves");
  add("--device", o.device, one_of({"auto", "cpu", "cuda"}), "auto or cpu");
  add("--threads", o.threads, integer(0, 1024), "CPU threads; 0: one per core");
  flag("--overwrite", o.overwrite, "replace an earlier run in that folder");
  flag("--resume", o.resume, "go on where the run in that folder stopped, with its settings");
  flag("--profile", o.profile, "print time and bytes of every op");
  flag("--quiet", o.quiet, "no progress");
}

void declare_resumed(const TrainVit& o, const CLI::App& command, CLI::App& merged, TrainVit& result) {
  check<ConfigError>(!o.overwrite, "--resume: it excludes --overwrite");
  const std::string file = o.run + "/" + kSettingsFile;
  check<ConfigError>(std::filesystem::exists(file), "--resume: '{}' holds no run: it has no {}", o.run,
                     kSettingsFile);
  declare(merged, result);
  std::vector<std::string> arguments;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& value : option->results()) {
      arguments.push_back("--" + option->get_single_name() + "=" + value);
    }
  }
  std::ifstream text(file);
  for (const ConfigEntry& entry : parse_config(file, text)) {
    const CLI::Option* given = command.get_option_no_throw("--" + entry.name);
    check<ConfigError>(given != nullptr && entry.section.empty(), "{}:{}: unknown option '{}'", file,
                       entry.line, entry.name);
    if (given->count() > 0) continue;
    for (const std::string& value : entry.values) arguments.push_back("--" + entry.name + "=" + value);
  }
  std::reverse(arguments.begin(), arguments.end());  // the order that parse() takes
  try {
    merged.parse(arguments);
  } catch (const CLI::ParseError& error) {
    raise<ConfigError>("{}: {}", file, error.what());
  }
}

void check_options(const TrainVit& o) {
  check<ConfigError>(o.device != "cuda",
                     "--device cuda: this build has no CUDA backend, expected auto or cpu");
  check<ConfigError>(!o.compare || o.trainer.passes > 1, "--compare: expected --passes of at least 2, got {}",
                     o.trainer.passes);
  const double largest = std::max(o.dropout, o.attention_dropout);
  check<ConfigError>(o.trainer.rate_scale * largest < 1,
                     "--rate-scale: {} times the dropout rate {} is not in [0, 1)", o.trainer.rate_scale,
                     largest);
}

nn::TrainerOptions trainer_options(const TrainVit& o, int64_t images) {
  nn::TrainerOptions options = o.trainer;
  const int64_t steps = options.epochs * ((images + options.batch_size - 1) / options.batch_size);
  options.schedule = nn::Schedule::parse(
      o.schedule, {.warmup = o.warmup,
                   .total = steps,
                   .step_size = o.decay_steps > 0 ? o.decay_steps : std::max<int64_t>(1, steps / 3)});
  options.plan = nn::parse_plan(o.plan);
  options.precision = o.precision == "bf16" ? DType::bf16 : DType::f32;
  options.alpha_schedule = nn::parse_alpha_schedule(o.alpha_schedule);
  options.unit = "images";
  options.progress = !o.quiet;
  return options;
}

}  // namespace tandem::command
