#include "nn/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "autograd/grad_mode.h"
#include "nn/io/safetensors.h"
#include "nn/optim/clip.h"
#include "nn/train/progress.h"
#include "nn/train/run_folder.h"

namespace tandem::nn {

AlphaSchedule parse_alpha_schedule(std::string_view name) {
  for (AlphaSchedule s : {AlphaSchedule::constant, AlphaSchedule::warmup, AlphaSchedule::lr}) {
    if (name == name_of(s)) return s;
  }
  raise<ConfigError>("alpha_schedule: expected constant, warmup or lr, got '{}'", name);
}

std::string_view name_of(AlphaSchedule s) {
  return s == AlphaSchedule::constant ? "constant" : s == AlphaSchedule::warmup ? "warmup" : "lr";
}

struct Trainer::State {
  int64_t epoch = 0, step = 0;  // the next ones
  FitResult result;
  StateDict best;                 // the weights of result.best_epoch
  std::vector<StateDict> recent;  // of the last options.average epochs
  int64_t trained = 0;            // samples since `start`, to tell the time that is left
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

namespace {

void at_least(const char* name, int64_t value, int64_t low) {
  check<ConfigError>(value >= low, "{}: expected at least {}, got {}", name, low, value);
}

// Kept where memory is plenty, and where checkpoints put it when they are read.
StateDict host_copy(const Module& module) {
  StateDict copy;
  for (const auto& [name, tensor] : module.state_dict())
    copy.push_back({name, tensor.device() == kCpu ? tensor.clone() : tensor.to(kCpu)});
  return copy;
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Objective> objective, Optimizer& optimizer, TrainerOptions options)
    : Trainer(*objective, optimizer, std::move(options)) {
  owned_ = std::move(objective);
}

Trainer::Trainer(Objective& objective, Optimizer& optimizer, TrainerOptions options)
    : objective_(objective),
      optimizer_(optimizer),
      options_(std::move(options)),
      base_lr_(optimizer.lr()),
      state_(std::make_unique<State>()) {
  at_least("epochs", options_.epochs, 1);
  at_least("batch_size", options_.batch_size, 1);
  at_least("accumulate", options_.accumulate, 1);
  at_least("rdrop_every", options_.rdrop_every, 1);
  check_step_options(step_options());
  at_least("alpha_warmup", options_.alpha_warmup, options_.alpha_schedule == AlphaSchedule::warmup ? 1 : 0);
  at_least("eval_batch_size", options_.eval_batch_size, 1);
  at_least("patience", options_.patience, 0);
  at_least("average", options_.average, 0);
  check<ConfigError>(options_.clip_norm >= 0, "clip_norm: expected a number >= 0, got {}",
                     options_.clip_norm);
  check<ConfigError>(!options_.cuda_graph || objective.module().device() != kCpu,
                     "cuda_graph: the model is on the CPU, expected a device that can record its work");
  check<ConfigError>(!options_.cuda_graph || objective.recordable(),
                     "cuda_graph: this method's steps need decisions on the host and cannot be recorded");
  if (options_.cuda_graph)
    recorded_ = std::make_unique<RecordedSteps>(objective_, optimizer_, options_.clip_norm);
  check<ConfigError>(options_.accumulate <= options_.batch_size,
                     "accumulate: {} micro-batches of a batch of {}", options_.accumulate,
                     options_.batch_size);
}

Trainer::~Trainer() = default;

double Trainer::alpha_now() const {
  switch (options_.alpha_schedule) {
    case AlphaSchedule::warmup:
      return options_.alpha * std::min(1.0, static_cast<double>(state_->step + 1) / options_.alpha_warmup);
    case AlphaSchedule::lr:
      return options_.alpha * options_.schedule(state_->step + 1);
    default:
      return options_.alpha;
  }
}

StepOptions Trainer::step_options() const {
  StepOptions step{.passes = options_.passes,
                   .alpha = alpha_now(),
                   .label_smoothing = options_.label_smoothing,
                   .rates = options_.rates,
                   .rate_scale = options_.rate_scale,
                   .precision = options_.precision,
                   .plan = options_.plan,
                   .seed = options_.seed,
                   .step = static_cast<uint64_t>(state_->step)};
  // Between R-Drop steps: one pass, the first one's noise.
  if (state_->step % options_.rdrop_every != 0) {
    step.passes = 1;
    if (!step.rates.empty()) step.rates.resize(1);
  }
  return step;
}

StepResult Trainer::step(const std::vector<data::Batch>& micro_batches) {
  const Device device = objective_.module().device();
  const StepBatches batches = upload(objective_, device, micro_batches);
  backend(device).await_uploads();
  return step(batches);
}

StepResult Trainer::step(const StepBatches& batches) {
  objective_.module().train();
  objective_.module().discard_statistics();  // of a step that failed
  const double lr = base_lr_ * options_.schedule(state_->step + 1);
  if (recorded_) {
    if (const auto result = recorded_->run(batches, step_options(), lr)) {
      optimizer_.set_lr(lr);
      ++state_->step;
      return *result;
    }
  }
  optimizer_.zero_grad();
  const StepResult result = accumulate_gradients(objective_, batches, step_options());
  check<ValueError>(std::isfinite(result.loss),
                    "loss: {} at step {} (ce {}, kl {}); the weights were not changed", result.loss,
                    state_->step, result.ce, result.kl);
  const Tensors parameters = objective_.module().parameters();
  const double norm =
      options_.clip_norm > 0 ? clip_grad_norm(parameters, options_.clip_norm, true) : grad_norm(parameters);
  check<ValueError>(std::isfinite(norm), "gradient: its norm is {} at step {}; the weights were not changed",
                    norm, state_->step);
  optimizer_.set_lr(lr);
  optimizer_.step();
  objective_.module().commit_statistics();
  ++state_->step;
  return result;
}

std::string Trainer::epoch_label(int64_t epoch) const {
  const std::string count = std::to_string(options_.epochs);
  return fmt::format("{}{}epoch {:>{}}/{}", options_.name, options_.name.empty() ? "" : " ", epoch + 1,
                     count.size(), count);
}

// One line on an epoch; a narrow terminal gets a short one.
std::string Trainer::epoch_line(const Metrics& train, const Metrics& valid, bool best) const {
  const std::string label = epoch_label(valid.epoch);
  auto accuracy = [&](const char* space) {
    if (!options_.metric.name.empty())
      return fmt::format("{}{} {:.4g}", space, options_.metric.name, valid.metric);
    return valid.accuracy >= 0 ? fmt::format("{}acc {:.2f}%", space, 100 * valid.accuracy) : "";
  };
  const std::string line =
      fmt::format("{}  loss {:.4f}  ce {:.4f}  kl {:.4f} | valid ce {:.4f}{}  {:6.0f} {}/s{}", label,
                  train.loss, train.ce, train.kl, valid.ce, accuracy("  "), train.samples_per_second,
                  options_.unit, best ? "  best" : "");
  if (line.size() <= terminal_width()) return line;
  return fmt::format("{} loss {:.3f} ce {:.3f} kl {:.4f}  valid ce {:.3f}{}{}", label, train.loss, train.ce,
                     train.kl, valid.ce, accuracy(" "), best ? " *" : "");
}

// The micro-batches of a step of these samples, on their way to the device.
StepBatches Trainer::load(const data::Dataset& train, const data::Indices& indices, int64_t step) const {
  const int64_t micro =
      (static_cast<int64_t>(indices.size()) + options_.accumulate - 1) / options_.accumulate;
  std::vector<data::Batch> parts;
  for (size_t begin = 0; begin < indices.size(); begin += micro) {
    const size_t count = std::min<size_t>(micro, indices.size() - begin);
    parts.push_back(
        train.batch(std::span(indices).subspan(begin, count), {.training = true,
                                                               .seed = options_.seed,
                                                               .step = static_cast<uint64_t>(step),
                                                               .sample_offset = begin}));
  }
  return upload(objective_, objective_.module().device(), parts);
}

Metrics Trainer::train_epoch(const data::Dataset& train) {
  const auto batches = train.shuffled_batches(options_.seed, state_->epoch, options_.batch_size);
  Progress progress(epoch_label(state_->epoch), train.size(), options_.unit, options_.progress);
  Metrics epoch;
  double units = 0;
  int64_t done = 0;
  const Device device = objective_.module().device();
  StepBatches next = load(train, batches.front(), state_->step);
  for (size_t i = 0; i < batches.size(); ++i) {
    const data::Indices& indices = batches[i];
    // The device copies the next batch while it works on this one.
    backend(device).await_uploads();
    const StepBatches current = std::move(next);
    if (i + 1 < batches.size()) next = load(train, batches[i + 1], state_->step + 1);
    Metrics now{.epoch = state_->epoch, .alpha = alpha_now()};
    const StepResult result = step(current);
    now.step = state_->step;
    now.lr = optimizer_.lr();
    now.loss = result.loss, now.ce = result.ce, now.kl = result.kl, now.accuracy = result.accuracy;
    state_->trained += indices.size();
    if (on_step) on_step(now);
    units += result.units;
    for (auto field : {&Metrics::loss, &Metrics::ce, &Metrics::kl, &Metrics::accuracy}) {
      epoch.*field += (now.*field - epoch.*field) * (result.units / units);  // the mean over units so far
    }
    epoch.lr = now.lr, epoch.alpha = now.alpha;
    done += indices.size();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - state_->start;
    const int64_t left = (options_.epochs - state_->epoch) * train.size() - done;
    progress.update(done,
                    fmt::format("loss {:.3f} ce {:.3f} kl {:.4f}", epoch.loss, epoch.ce, epoch.kl) +
                        (epoch.accuracy >= 0 ? fmt::format(" acc {:.1f}%", 100 * epoch.accuracy) : ""),
                    spent.count() / state_->trained * left);
  }
  epoch.epoch = state_->epoch;
  epoch.step = state_->step;
  epoch.seconds = progress.seconds();
  epoch.samples_per_second = train.size() / epoch.seconds;
  return epoch;
}

namespace {

struct EvalMode {  // for a scope, whatever ends it
  explicit EvalMode(Module& module) : module(module), training(module.is_training()) { module.eval(); }
  ~EvalMode() { module.train(training); }
  Module& module;
  bool training;
  NoGradGuard no_grad;
};

}  // namespace

Metrics evaluate(Objective& objective, const data::Dataset& dataset, int64_t batch_size) {
  check<ConfigError>(dataset.size() > 0, "evaluate: the data set is empty");
  const EvalMode mode(objective.module());
  const auto start = std::chrono::steady_clock::now();
  const Device device = objective.module().device();
  Metrics result;
  int64_t units = 0, correct = 0;
  for (const data::Indices& indices : dataset.ordered_batches(batch_size)) {
    const data::Batch host = dataset.batch(indices, {}), batch = host.to(device);
    const LossParts parts = objective.loss(objective.forward(batch), batch, {.alpha = 0, .divisor = 1}, 1);
    result.ce += parts.ce;
    correct += parts.correct;
    units += objective.valid_units(host);
  }
  check<ValueError>(units > 0, "evaluate: no unit of the data set counts towards the loss");
  result.ce /= units;
  result.loss = result.ce;
  result.accuracy = objective.counts_correct() ? static_cast<double>(correct) / units : -1;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.samples_per_second = dataset.size() / result.seconds;
  return result;
}

Metrics Trainer::validate(const data::Dataset& valid) const {
  Metrics measured = evaluate(objective_, valid, options_.eval_batch_size);
  measured.epoch = state_->epoch, measured.step = state_->step;
  check<ValueError>(std::isfinite(measured.loss),
                    "validation loss: {} after epoch {}; nothing was saved of it", measured.loss,
                    state_->epoch + 1);
  if (options_.metric.name.empty()) return measured;
  const EvalMode mode(objective_.module());
  const auto start = std::chrono::steady_clock::now();
  measured.metric = options_.metric.measure(measured);
  measured.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return measured;
}

bool Trainer::better(const Metrics& a, const Metrics& b) const {
  if (!options_.metric.name.empty() && a.metric != b.metric)
    return (a.metric > b.metric) == options_.metric.higher_is_better;
  return objective_.counts_correct() && a.accuracy != b.accuracy ? a.accuracy > b.accuracy : a.loss < b.loss;
}

FitResult Trainer::fit(const data::Dataset& train, const data::Dataset& valid) {
  *state_ = {};
  return run(train, valid);
}

FitResult Trainer::resume(const data::Dataset& train, const data::Dataset& valid) {
  restore();
  return run(train, valid);
}

FitResult Trainer::run(const data::Dataset& train, const data::Dataset& valid) {
  check<ConfigError>(train.size() > 0, "fit: the training data set is empty");
  check<ConfigError>(valid.size() > 0, "fit: the validation data set is empty");
  FitResult& result = state_->result;
  if (!options_.run_dir.empty()) make_run_folder(options_.run_dir);
  struct RestoreRate {  // the schedule's last rate is not the optimizer's
    ~RestoreRate() { optimizer.set_lr(lr); }
    Optimizer& optimizer;
    double lr;
  } restore_rate{optimizer_, base_lr_};
  while (state_->epoch < options_.epochs && !result.stopped_early) {
    const Metrics trained = train_epoch(train);
    const Metrics measured = validate(valid);
    ++state_->epoch;
    result.train.push_back(trained);
    result.valid.push_back(measured);
    const auto last = static_cast<int64_t>(result.valid.size()) - 1;
    if (last == 0 || better(measured, result.best())) {
      result.best_epoch = last;
      state_->best = host_copy(objective_.module());
    }
    if (options_.average > 0) {
      state_->recent.push_back(host_copy(objective_.module()));
      if (static_cast<int64_t>(state_->recent.size()) > options_.average)
        state_->recent.erase(state_->recent.begin());
    }
    result.stopped_early = options_.patience > 0 && last - result.best_epoch >= options_.patience;
    if (options_.progress) {
      fmt::print(stderr, "{}\n", epoch_line(trained, measured, last == result.best_epoch));
    }
    if (options_.run_dir.empty()) continue;
    if (last == result.best_epoch) save_best();
    write_metrics(options_.run_dir, result);
    save_last();
  }
  if (options_.average > 0) try_average(valid);
  objective_.module().load_state_dict(state_->best);
  return result;
}

// The mean of the last epochs' weights (Vaswani et al. 2017, section 6.1).
void Trainer::try_average(const data::Dataset& valid) {
  objective_.module().load_state_dict(average(state_->recent));
  const Metrics measured = validate(valid);
  if (!better(measured, state_->result.best())) return;
  state_->result.averaged = measured;
  state_->best = host_copy(objective_.module());
  if (options_.progress) {
    fmt::print(stderr, "{}\n", epoch_line(state_->result.train.back(), measured, true));
  }
  if (!options_.run_dir.empty()) save_best();
}

namespace {

// last.safetensors holds three state dicts, told apart by these prefixes.
constexpr const char* kModel = "model.";
constexpr const char* kBest = "best.";
constexpr const char* kOptimizer = "optimizer.";

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

}  // namespace

void Trainer::save_best() const {
  save_safetensors(options_.run_dir + "/" + kBestFile, state_->best, options_.metadata);
}

void Trainer::save_last() const {
  StateDict all;
  append(all, kModel, objective_.module().state_dict());
  append(all, kBest, state_->best);
  append(all, kOptimizer, optimizer_.state_dict());
  for (size_t i = 0; i < state_->recent.size(); ++i) append(all, recent_prefix(i), state_->recent[i]);
  auto metadata = options_.metadata;
  metadata["epochs_done"] = std::to_string(state_->epoch);
  metadata["steps_done"] = std::to_string(state_->step);
  metadata["record"] = metrics_to_json(state_->result);
  save_safetensors(options_.run_dir + "/" + kLastFile, all, metadata);
}

void Trainer::restore() {
  check<ConfigError>(!options_.run_dir.empty(), "resume: no run folder was given");
  const std::string file = options_.run_dir + "/" + kLastFile;
  const auto [tensors, metadata] = load_safetensors(file);
  auto text = [&, &metadata = metadata](const char* key) {
    const auto found = metadata.find(key);
    check<IoError>(found != metadata.end(), "{}: not a checkpoint to resume from: it has no '{}'", file, key);
    return found->second;
  };
  auto number = [&](const char* key) -> int64_t {
    const std::string digits = text(key);
    check<IoError>(
        !digits.empty() && digits.size() < 18 && digits.find_first_not_of("0123456789") == std::string::npos,
        "{}: {}: expected a number, got '{}'", file, key, digits);
    return std::stoll(digits);
  };
  State state{.epoch = number("epochs_done"),
              .step = number("steps_done"),
              .result = metrics_from_json(file, text("record")),
              .best = extract(tensors, kBest),
              .recent = {}};
  for (StateDict part; !(part = extract(tensors, recent_prefix(state.recent.size()))).empty();)
    state.recent.push_back(std::move(part));
  try {
    const auto epochs = static_cast<int64_t>(state.result.valid.size());
    state.result.stopped_early =
        options_.patience > 0 && epochs - 1 - state.result.best_epoch >= options_.patience;
    objective_.module().load_state_dict(extract(tensors, kModel));
    optimizer_.load_state_dict(extract(tensors, kOptimizer));
  } catch (const Error& error) {
    raise<IoError>("{}: the checkpoint of another model or optimizer: {}", file, error.what());
  }
  *state_ = std::move(state);
}

}  // namespace tandem::nn
