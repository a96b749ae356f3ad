#include "tools/tandem/train_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "autograd/error.h"
#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/optim/sgd.h"
#include "nn/train/manifest.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/toml.h"

namespace tandem::command {

void declare_passes(Command& to, TrainSettings& s) {
  to.group("R-Drop");
  to.option("--passes", s.trainer.passes, integer(1, kMaxPasses),
            "m, the forward passes of each batch; 1: plain training");
  to.option("--alpha", s.trainer.alpha, non_negative(), "weight of the KL term, in the paper's units");
  to.option("--alpha-schedule", s.alpha_schedule, one_of({"constant", "warmup", "lr"}),
            "constant, warmup (linear, see --alpha-warmup), or lr (in proportion to the learning rate)");
  to.option("--alpha-warmup", s.trainer.alpha_warmup, integer(0), "steps of alpha's linear warm-up");
  to.option("--rates", s.trainer.rates, fraction(),
            "dropout rate of each pass, one for each: 0.1,0.2,0.3; without: --dropout for all");
  to.option("--rate-scale", s.trainer.rate_scale, non_negative(), "multiplies every dropout rate");
  to.option("--rdrop-every", s.trainer.rdrop_every, integer(1),
            "m passes at every k-th step, one plain pass at the others");
  to.option("--plan", s.plan, one_of({"stacked", "sequential", "replay"}),
            "how the passes run: stacked, sequential, or replay (the activation memory of one pass)");
  to.flag("--compare", s.compare, "train plainly first, then with R-Drop, and report both");
}

void declare_training(Command& to, TrainSettings& s, const std::string& unit) {
  to.group("Training");
  to.option("--epochs", s.trainer.epochs, integer(1, 1'000'000), "epochs");
  to.option("--batch-size", s.trainer.batch_size, integer(1), unit + " of an optimizer step");
  to.option("--accumulate", s.trainer.accumulate, integer(1), "micro-batches that a batch is cut into");
  to.option("--precision", s.precision, one_of({"f32", "bf16"}),
            "f32, or bf16: products in bf16; weights, sums and losses in f32");
  to.flag("--tf32", s.tf32,
          "products of f32 rounded to TF32, 10 bits of mantissa, where that is faster (cuda only)");
  to.option("--optimizer", s.optimizer, one_of({"adamw", "adam", "sgd"}), "adamw, adam or sgd");
  to.option("--lr", s.lr, non_negative(), "learning rate");
  to.option("--schedule", s.schedule, one_of({"constant", "cosine", "linear", "inverse_sqrt", "step"}),
            "of the learning rate: constant, cosine, linear, inverse_sqrt or step");
  to.option(
      "--warmup", s.warmup, integer(s.usual_warmup > 0 ? -1 : 0),
      "steps of the learning rate's linear warm-up" +
          (s.usual_warmup > 0 ? fmt::format("; -1: {}, or a fifth of a shorter run", s.usual_warmup) : ""));
  to.option("--decay-steps", s.decay_steps, integer(0),
            "step schedule: a tenth of the rate every N steps; 0: every third of the run");
  to.option("--weight-decay", s.weight_decay, non_negative(), "weight decay, of matrices only");
  to.option("--momentum", s.momentum, fraction(), "momentum of sgd");
  to.option("--beta2", s.beta2, fraction(), "decay of the mean squared gradient, of adam and adamw");
  to.option("--clip-norm", s.trainer.clip_norm, non_negative(), "largest norm of the whole gradient; 0: any");
  to.option("--label-smoothing", s.trainer.label_smoothing, fraction(), "label smoothing");
  to.option("--eval-every", s.trainer.eval_steps, integer(0),
            "validate after every so many steps, too, not only after an epoch; 0: not");
  to.option("--patience", s.trainer.patience, integer(0),
            "stop after N validations without a better one; 0: never");
  to.option("--average", s.trainer.average, integer(0),
            "try the mean of the weights at the last N validations at the end, and keep it if it validates "
            "better");
  to.option("--ema", s.trainer.ema, fraction(),
            "decay of the weights' exponential moving average, which is validated and kept; 0: none");
  to.option("--seed", s.trainer.seed, integer(0, INT64_MAX),
            "seed of weights, order, noise and augmentation");
  s.tuning.declare(to);
}

void declare_run(Command& to, TrainSettings& s) {
  to.group("Run");
  to.option("--run", s.run, not_empty(), "folder for metrics, checkpoints, settings and curves");
  to.device(s.device);
  to.option("--threads", s.threads, integer(0, 1024), "CPU threads; 0: one per core");
  to.flag("--cuda-graph", s.trainer.cuda_graph,
          "record steps of equal shapes once and replay them (cuda only)");
  to.flag("--overwrite", s.overwrite, "replace an earlier run in that folder");
  to.flag("--resume", s.resume,
          "go on where the run in that folder stopped, with its settings; with more --epochs at the rate "
          "that a run of so many has there");
  to.option("--save-every", s.save_every, steps_or_duration(),
            "a checkpoint every so many steps (500), or after so much time (10m), not only after an epoch");
  to.option("--keep", s.trainer.keep, integer(1, 1000),
            "checkpoints that stay: last.safetensors, and those before it as step-NNNNNN.safetensors");
  to.option("--resume-from", s.resume_from, integer(0),
            "--resume, from the checkpoint after so many steps that --keep left; later ones go; 0: the last");
  to.option("--on-nan", s.on_nan, one_of({"stop", "skip", "back"}),
            "at a step that is not finite: stop, skip its batch (10 in a row at most), or back to the last "
            "checkpoint, without the batches since then");
  to.option("--log-every", s.log_every, integer(0),
            "a line in steps.jsonl, and a point for TensorBoard, every so many steps; 0: none");
  to.option("--measure-kl", s.trainer.measure_kl, integer(0),
            "plain training: the KL between two passes of every k-th batch, without a gradient; 0: none");
  to.option("--max-time", s.max_time, duration(),
            "stop after so much time (3h) between two steps, saved, with status 130; --resume goes on");
  to.flag("--dry-run", s.dry_run,
          "tell parameters, steps, and each plan's time and memory from three steps; write nothing");
  to.flag("--profile", s.profile, "print time and bytes of every op");
  to.flag("--quiet", s.quiet, "no progress");
}

namespace {

// The task of a run, as its weights have it, or those of a half of a --compare; "" where there are none.
std::string task_of(const std::string& run) {
  const std::optional<nn::Metadata> metadata = metadata_of(run);
  if (!metadata || !metadata->contains("task")) return {};
  for (const Task& task : tasks())
    if (task.in_metadata == metadata->at("task")) return task.name;
  return metadata->at("task");
}

}  // namespace

std::optional<nn::Metadata> metadata_of(const std::string& run) {
  for (const std::string& folder : {run, run + "/plain", run + "/rdrop"}) {
    const nn::Manifest manifest(folder);
    for (const char* name : {nn::kBestFile, nn::kLastFile})
      if (manifest.lists(name))
        return nn::load_safetensors(manifest.checked(name), nn::Alignment::any).metadata;
  }
  return {};
}

int64_t resume_settings(Command& command, const TrainSettings& s) {
  check<ConfigError>(!s.overwrite, "--resume: it excludes --overwrite");
  return nn::read_run(s.run, [&](const nn::Manifest& manifest) {
    check<ConfigError>(manifest.lists(nn::kSettingsFile), "--resume: '{}' holds no run: it has no {}", s.run,
                       nn::kSettingsFile);
    const std::string file = manifest.checked(nn::kSettingsFile);
    // The run has its own vocabulary, wherever it was from.
    std::map<std::string, std::string> own;
    if (manifest.lists(nn::kVocabularyFile)) own["vocab"] = fmt::format("{}/{}", s.run, nn::kVocabularyFile);
    try {
      // Data are compared by their contents, which may have moved.
      command.check_same(
          file,
          {"epochs",  "patience", "data",       "vocab",        "init",       "run",  "device",
           "threads", "plan",     "accumulate", "on-bad-image", "cuda-graph", "tf32", "save-every",
           "keep",    "on-nan",   "measure-kl", "log-every",    "max-time",   "beam", "length-penalty"});
      command.read(file, own);
    } catch (const ConfigError&) {
      const std::string task = task_of(s.run);
      check<ConfigError>(task.empty() || task == command.name(),
                         "--resume: '{}' is a run of the task '{}', expected one of '{}'", s.run, task,
                         command.name());
      throw;
    }
    std::ifstream text(file);
    int64_t epochs = s.trainer.epochs;
    for (const TomlEntry& entry : parse_toml(file, text))
      if (entry.name == "epochs" && !entry.values.empty()) epochs = std::atoll(entry.values[0].c_str());
    return epochs;
  });
}

void check_settings(const TrainSettings& s, double rate) {
  check<ConfigError>(!s.compare || s.trainer.passes > 1, "--compare: expected --passes of at least 2, got {}",
                     s.trainer.passes);
  check<ConfigError>(s.trainer.rate_scale * rate < 1,
                     "--rate-scale: {} times the dropout rate {} is not in [0, 1)", s.trainer.rate_scale,
                     rate);
}

nn::TrainerOptions trainer_options(const TrainSettings& s, const data::Dataset& train) {
  nn::TrainerOptions options = s.trainer;
  const int64_t steps = options.epochs * train.shuffled_batches(options.seed, 0, options.batch_size).size();
  const int64_t least = s.schedule == "inverse_sqrt" ? 1 : 0;
  const bool ends = s.schedule == "cosine" || s.schedule == "linear";
  check<ConfigError>(!ends || s.warmup < steps,
                     "--warmup: expected fewer than the {} steps of the run, got {}", steps, s.warmup);
  options.schedule = nn::Schedule::parse(
      s.schedule, {.warmup = s.warmup >= 0 ? s.warmup : std::clamp(steps / 5, least, s.usual_warmup),
                   .total = steps + 1,  // so that the last step learns
                   .step_size = s.decay_steps > 0 ? s.decay_steps : std::max<int64_t>(1, steps / 3)});
  options.plan = nn::parse_plan(s.plan);
  options.precision = s.precision == "bf16" ? DType::bf16 : DType::f32;
  options.alpha_schedule = nn::parse_alpha_schedule(s.alpha_schedule);
  options.on_nan = nn::parse_on_nan(s.on_nan);
  options.progress = !s.quiet;
  if (s.save_every.find_first_of("smhd") == std::string::npos) {
    options.save_steps = std::atoll(s.save_every.c_str());
  } else {
    options.save_seconds = seconds_of(s.save_every);
  }
  return options;
}

std::unique_ptr<nn::Optimizer> make_optimizer(const TrainSettings& s, const nn::Module& module,
                                              const FineTuned& tuned) {
  std::vector<nn::ParameterGroup> groups, rest;  // one for each: matrices first
  const nn::NamedTensors parameters = module.named_parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, parameter] = parameters[i];
    const bool matrix = parameter.dim() >= 2 && name.ends_with("weight");
    nn::GroupOptions options{.weight_decay = matrix || tuned.decay_all() ? s.weight_decay : 0};
    if (const double scale = tuned.lr_scale(i); scale != 1) options.lr = s.lr * scale;
    (matrix ? groups : rest).push_back({{parameter}, options});
  }
  groups.insert(groups.end(), rest.begin(), rest.end());
  if (s.optimizer == "adamw")
    return std::make_unique<nn::AdamW>(groups, nn::AdamWOptions{.lr = s.lr, .betas = {0.9, s.beta2}});
  if (s.optimizer == "adam")
    return std::make_unique<nn::Adam>(groups, nn::AdamOptions{.lr = s.lr, .betas = {0.9, s.beta2}});
  return std::make_unique<nn::SGD>(groups, nn::SGDOptions{.lr = s.lr, .momentum = s.momentum});
}

}  // namespace tandem::command
