#include "nn/train/checkpoint.h"

#include <fmt/format.h>

#include "autograd/error.h"
#include "nn/io/text.h"
#include "nn/train/manifest.h"
#include "nn/train/run_folder.h"

namespace tandem::nn {
namespace {

// last.safetensors holds several state dicts, told apart by these prefixes.
constexpr const char* kModel = "model.";
constexpr const char* kBest = "best.";
constexpr const char* kOptimizer = "optimizer.";
constexpr const char* kEma = "ema.";

std::string recent_prefix(size_t i) { return fmt::format("recent{}.", i); }

void append(StateDict& all, const std::string& prefix, const StateDict& part) {
  for (const auto& [name, tensor] : part) all.push_back({prefix + name, tensor});
}

StateDict extract(const StateDict& all, const std::string& prefix) {
  StateDict part;
  for (const auto& [name, tensor] : all) {
    if (name.starts_with(prefix)) part.push_back({name.substr(prefix.size()), tensor});
  }
  return part;
}

// The best and the recent weights are needed at the end of a run only: what does not fit shows before it.
void check_alike(const std::string& file, const std::string& prefix, const StateDict& part,
                 const StateDict& model) {
  for (const auto& [name, tensor] : model) {
    const Tensor* found = find(part, name);
    check<IoError>(found != nullptr && found->shape() == tensor.shape() && found->dtype() == tensor.dtype(),
                   "{}: \"{}{}\": expected {} as in \"{}{}\", got {}", file, prefix, name, describe(tensor),
                   kModel, name, found != nullptr ? fmt::format("{}", describe(*found)) : "none");
  }
  check<IoError>(part.size() == model.size(), "{}: \"{}\": expected {} tensors as in \"{}\", got {}", file,
                 prefix, model.size(), kModel, part.size());
}

std::string text_of(const std::string& file, const Metadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  check<IoError>(found != metadata.end(), "{}: not a checkpoint to resume from: it has no '{}'", file, key);
  return found->second;
}

int64_t number_of(const std::string& file, const Metadata& metadata, const char* key) {
  const std::string digits = text_of(file, metadata, key);
  const bool is_number =
      !digits.empty() && digits.size() < 18 && digits.find_first_not_of("0123456789") == std::string::npos;
  check<IoError>(is_number, "{}: {}: expected a number, got '{}'", file, key, digits);
  return std::stoll(digits);
}

// Of the checkpoint after so many steps, or of the last one: its name.
std::string name_of_checkpoint(const Manifest& manifest, const std::string& run_dir,
                               std::optional<int64_t> step) {
  if (!step) return kLastFile;
  const std::string name = checkpoint_file(*step);
  if (manifest.lists(name)) return name;
  const std::string last = manifest.checked(kLastFile);
  const int64_t newest = number_of(last, load_safetensors(last, Alignment::any).metadata, "steps_done");
  std::vector<int64_t> steps = manifest.checkpoints();
  steps.push_back(newest);
  check<ConfigError>(newest == *step,
                     "resume: the run in '{}' has no checkpoint of step {}, expected one of {}", run_dir,
                     *step, data::join(steps, ", "));
  return kLastFile;
}

}  // namespace

Metadata run_identity(const TrainerOptions& o, double lr, const data::Dataset& train,
                      const data::Dataset& valid) {
  const auto& [warmup, total, floor, step_size, gamma] = o.schedule.options();
  Metadata identity = o.metadata;
  std::string rates;
  for (const double rate : o.rates) rates += fmt::format("{}{}", rates.empty() ? "" : ",", rate);
  const std::pair<const char*, std::string> entries[] = {
      {"training data", data::fingerprint(train)},
      {"validation data", data::fingerprint(valid)},
      {"passes", std::to_string(o.passes)},
      {"alpha", fmt::format("{}", o.alpha)},
      {"alpha_schedule", std::string(name_of(o.alpha_schedule))},
      {"alpha_warmup", std::to_string(o.alpha_warmup)},
      {"rates", rates},
      {"rate_scale", fmt::format("{}", o.rate_scale)},
      {"rdrop_every", std::to_string(o.rdrop_every)},
      {"precision", std::string(name_of(o.precision))},
      {"label_smoothing", fmt::format("{}", o.label_smoothing)},
      {"batch_size", std::to_string(o.batch_size)},
      {"drop_last", o.drop_last ? "1" : "0"},
      {"lr", fmt::format("{}", lr)},
      {"schedule", std::string(o.schedule.name())},
      {"warmup", std::to_string(warmup)},
      {"floor", fmt::format("{}", floor)},
      {"step_size", std::to_string(o.schedule.name() == "step" ? step_size : 0)},
      {"gamma", fmt::format("{}", gamma)},
      {"clip_norm", fmt::format("{}", o.clip_norm)},
      {"eval_steps", std::to_string(o.eval_steps)},
      {"average", std::to_string(o.average)},
      {"ema", fmt::format("{}", o.ema)},
      {"metric", o.metric.name},
      {"seed", std::to_string(o.seed)},
  };
  for (const auto& [name, value] : entries) identity.emplace(name, value);
  return identity;
}

void save_best(const std::string& file, const RunState& state, const Metadata& metadata) {
  save_safetensors(file, state.best, metadata);
}

StateDict host_copy(const StateDict& tensors) {
  StateDict copy;
  for (const auto& [name, tensor] : tensors)
    copy.push_back({name, tensor.device() == kCpu ? tensor.clone() : tensor.to(kCpu)});
  return copy;
}

LastFile last_file(const RunState& state, const Module& module, const Optimizer& optimizer, const Ema* ema,
                   Metadata metadata, bool copied) {
  const auto now = [&](const StateDict& part) { return copied ? host_copy(part) : part; };
  StateDict all;
  append(all, kModel, now(module.state_dict()));
  append(all, kBest, state.best);
  append(all, kOptimizer, now(optimizer.state_dict()));
  if (ema != nullptr) append(all, kEma, now(ema->state_dict()));
  for (size_t i = 0; i < state.recent.size(); ++i) append(all, recent_prefix(i), state.recent[i]);
  metadata["epochs_done"] = std::to_string(state.epoch);
  metadata["steps_done"] = std::to_string(state.step);
  metadata["record"] = metrics_to_json(state.result);
  if (state.result.skipped > 0) {
    metadata["steps_skipped"] = std::to_string(state.result.skipped);
    metadata["steps_skipped_in_row"] = std::to_string(state.skipped_in_row);
  }
  if (state.part.batches > 0) metadata["epoch_part"] = part_to_json(state.part);
  return {std::move(all), std::move(metadata)};
}

RunState load_last(const std::string& run_dir, Module& module, Optimizer& optimizer, Ema* ema,
                   const Metadata& expected, std::optional<int64_t> step) {
  const Manifest manifest(run_dir);
  check<IoError>(manifest.lists(kLastFile), "{}: no run to go on with: it has no {}", run_dir, kLastFile);
  manifest.check_all();
  const std::string file = manifest.checked(name_of_checkpoint(manifest, run_dir, step));
  const auto [tensors, metadata] = load_safetensors(file, Alignment::any);
  for (const auto& [key, value] : expected) {
    const auto found = metadata.find(key);  // older checkpoints have fewer
    check<ConfigError>(found == metadata.end() || found->second == value,
                       "resume: {}: the run in '{}' has '{}', got '{}'", key, run_dir,
                       found == metadata.end() ? "" : found->second, value);
  }
  RunState state{.epoch = number_of(file, metadata, "epochs_done"),
                 .step = number_of(file, metadata, "steps_done"),
                 .result = metrics_from_json(file, text_of(file, metadata, "record")),
                 .best = extract(tensors, kBest)};
  if (const auto part = metadata.find("epoch_part"); part != metadata.end())
    state.part = part_from_json(file, part->second);
  if (metadata.contains("steps_skipped")) {
    state.result.skipped = number_of(file, metadata, "steps_skipped");
    state.skipped_in_row = number_of(file, metadata, "steps_skipped_in_row");
  }
  const bool begins = state.result.valid.empty();
  const int64_t recorded =
      (state.result.train.empty() ? 0 : state.result.train.back().step) + state.part.batches;
  check<IoError>(state.epoch == std::ssize(state.result.train) && state.step == recorded,
                 "{}: {} epochs and {} steps are done, but its record ends at epoch {}, step {}", file,
                 state.epoch, state.step, state.result.train.size(), recorded);
  for (StateDict part; !(part = extract(tensors, recent_prefix(state.recent.size()))).empty();)
    state.recent.push_back(std::move(part));
  const StateDict model = extract(tensors, kModel);
  if (!begins) check_alike(file, kBest, state.best, model);
  for (size_t i = 0; i < state.recent.size(); ++i)
    check_alike(file, recent_prefix(i), state.recent[i], model);
  const StateDict before = optimizer.state_dict(),
                  averages = ema != nullptr ? clone(ema->state_dict()) : StateDict();
  try {
    optimizer.load_state_dict(extract(tensors, kOptimizer));
    if (ema != nullptr) ema->load_state_dict(extract(tensors, kEma));
    module.load_state_dict(model);
  } catch (const Error& error) {
    optimizer.load_state_dict(before);
    if (ema != nullptr) ema->load_state_dict(averages);
    raise<IoError>("{}: the checkpoint of another model or optimizer: {}", file, error.what());
  }
  return state;
}

}  // namespace tandem::nn
