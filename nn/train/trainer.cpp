#include "nn/train/trainer.h"

#include <cmath>
#include <unordered_set>

#include "autograd/tell.h"
#include "nn/ranks/agreement.h"
#include "nn/train/progress.h"
#include "nn/train/recorded_steps.h"
#include "nn/train/report.h"
#include "nn/train/trainer_safety.h"
#include "nn/train/trainer_state.h"

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

namespace {

// The samples of each micro-batch of a step.
std::vector<std::span<const int64_t>> micro_batches(const data::Indices& indices, int64_t count) {
  const int64_t each = (std::ssize(indices) + count - 1) / count;
  std::vector<std::span<const int64_t>> parts;
  for (int64_t begin = 0; begin < std::ssize(indices); begin += each)
    parts.push_back(std::span(indices).subspan(begin, std::min(each, std::ssize(indices) - begin)));
  return parts;
}

// A rank's samples of a micro-batch: as many as the others', or one more on the first ranks.
std::span<const int64_t> share_of(std::span<const int64_t> samples, const Ranks& ranks) {
  const int64_t n = std::ssize(samples), each = n / ranks.size(), more = n % ranks.size();
  const int64_t begin = ranks.rank() * each + std::min<int64_t>(ranks.rank(), more);
  return samples.subspan(begin, each + (ranks.rank() < more));
}

void at_least(const char* name, int64_t value, int64_t low) {
  check<ConfigError>(value >= low, "{}: expected at least {}, got {}", name, low, value);
}

// What is in eval mode below a model that trains is frozen, and stays so.
void to_training_mode(Module& module) {
  if (!module.is_training()) module.train();
}

// Adds a step to the means of an epoch; `share` is its part of the units so far.
void add_step(Metrics& epoch, const Metrics& step, double share) {
  for (auto field : {&Metrics::loss, &Metrics::ce, &Metrics::kl, &Metrics::accuracy})
    epoch.*field += (step.*field - epoch.*field) * share;
  epoch.lr = step.lr, epoch.alpha = step.alpha;
}

constexpr size_t kAhead = 2;  // steps whose batches are begun before they are wanted

}  // namespace

Trainer::Trainer(std::unique_ptr<Objective> objective, Optimizer& optimizer, TrainerOptions options)
    : Trainer(*objective, optimizer, std::move(options)) {
  owned_ = std::move(objective);
}

Trainer::Trainer(Objective& objective, Optimizer& optimizer, TrainerOptions options)
    : objective_(objective),
      optimizer_(optimizer),
      options_(std::move(options)),
      state_(std::make_unique<State>()) {
  at_least("epochs", options_.epochs, 1);
  at_least("batch_size", options_.batch_size, 1);
  at_least("accumulate", options_.accumulate, 1);
  at_least("rdrop_every", options_.rdrop_every, 1);
  check_step_options(step_options());
  at_least("alpha_warmup", options_.alpha_warmup, options_.alpha_schedule == AlphaSchedule::warmup ? 1 : 0);
  at_least("eval_batch_size", options_.eval_batch_size, 1);
  at_least("eval_steps", options_.eval_steps, 0);
  at_least("patience", options_.patience, 0);
  at_least("average", options_.average, 0);
  at_least("save_steps", options_.save_steps, 0);
  at_least("keep", options_.keep, 1);
  at_least("measure_kl", options_.measure_kl, 0);
  check<ConfigError>(options_.save_seconds >= 0, "save_seconds: expected a number >= 0, got {}",
                     options_.save_seconds);
  check<ConfigError>(options_.ema >= 0 && options_.ema < 1,
                     "ema: expected a decay in (0, 1), or 0 for none, got {}", options_.ema);
  check<ConfigError>(options_.clip_norm >= 0, "clip_norm: expected a number >= 0, got {}",
                     options_.clip_norm);
  check<ConfigError>(options_.on_nan != OnNan::back || !options_.run_dir.empty(),
                     "on_nan: back needs a run_dir, whose last checkpoint it goes back to");
  check<ConfigError>(!options_.cuda_graph || objective.module().device() != kCpu,
                     "cuda_graph: the model is on the CPU, expected a device that can record its work");
  check<ConfigError>(!options_.cuda_graph || objective.recordable(),
                     "cuda_graph: this method's steps need decisions on the host and cannot be recorded");
  check<ConfigError>(options_.accumulate <= options_.batch_size,
                     "accumulate: {} micro-batches of a batch of {}", options_.accumulate,
                     options_.batch_size);
  std::unordered_set<const TensorImpl*> own;
  for (const Tensor& parameter : objective.module().parameters()) own.insert(parameter.impl().get());
  const Tensors learned = optimizer.parameters();
  for (size_t i = 0; i < learned.size(); ++i)
    check<ConfigError>(own.contains(learned[i].impl().get()),
                       "optimizer: its parameter {}, {}, is not one of the model's", i, describe(learned[i]));
  if (options_.ema > 0) ema_.emplace(objective_.module(), options_.ema);
  check<ConfigError>(!options_.ranks || !options_.cuda_graph,
                     "cuda_graph: not with several ranks, whose sums wait for each other on the host");
  check<ConfigError>(!options_.ranks || objective.splits(),
                     "ranks: this method's loss joins samples of a batch, whose parts are on several ranks");
  if (options_.ranks) gradient_sum_.emplace(*options_.ranks);
  options_.progress = options_.progress && first_rank();
  if (options_.cuda_graph)
    recorded_ = std::make_unique<RecordedSteps>(objective_, optimizer_, ema(), options_.clip_norm);
}

Trainer::~Trainer() = default;

FitResult Trainer::run(const data::Dataset& train, const data::Dataset& valid) {
  check_data(train, valid);
  std::map<std::string, std::string> same = identity_;  // and what the ranks' calls of each other go by
  const std::pair<const char*, int64_t> numbers[] = {{"epochs", options_.epochs},
                                                     {"accumulate", options_.accumulate},
                                                     {"patience", options_.patience},
                                                     {"average", options_.average},
                                                     {"eval_steps", options_.eval_steps},
                                                     {"eval_batch_size", options_.eval_batch_size},
                                                     {"save_steps", options_.save_steps},
                                                     {"measure_kl", options_.measure_kl},
                                                     {"epoch", state_->epoch},
                                                     {"step", state_->step},
                                                     {"batches done", state_->part.batches}};
  for (const auto& [name, number] : numbers) same[name] = std::to_string(number);
  same["plan"] = name_of(options_.plan), same["on_nan"] = name_of(options_.on_nan);
  same["save_seconds"] = fmt::format("{}", options_.save_seconds);
  agree("at the start", same);
  state_->later = options_.trainings_after * static_cast<double>(options_.epochs * train.size());
  while (state_->epoch < options_.epochs && !state_->result.stopped_early) {
    if (on_epoch) on_epoch(state_->epoch);
    const Metrics trained = train_epoch(train, valid);
    if (!state_->result.stopped_early) save_validated(judge(trained, valid, true));
  }
  if (options_.average > 0) try_average(valid);
  objective_.module().load_state_dict(state_->best);
  FitResult result = state_->result;
  if (state_->part.batches > 0) result.train.push_back(epoch_so_far());
  return result;
}

std::vector<data::Indices> Trainer::batches_of_epoch(const data::Dataset& train) const {
  auto batches = train.shuffled_batches(options_.seed, state_->epoch, options_.batch_size);
  check<ConfigError>(!batches.empty(), "fit: the training data set has no batches");
  if (!options_.drop_last) return batches;
  std::erase_if(batches, [&](const data::Indices& b) { return std::ssize(b) < options_.batch_size; });
  check<ConfigError>(!batches.empty(), "drop_last: no batch has {} samples", options_.batch_size);
  return batches;
}

// That the ranks have the same weights, and the same `entries`.
void Trainer::agree(const char* when, const std::map<std::string, std::string>& entries) const {
  if (!options_.ranks) return;
  std::map<std::string, std::string> all = entries;
  all[fmt::format("weights {}", when)] = weights_digest(objective_.module().state_dict());
  check_agreement(*options_.ranks, all);
}

// What would end a run after hours, where it can be told before.
void Trainer::check_data(const data::Dataset& train, const data::Dataset& valid) {
  check<ConfigError>(train.size() > 0, "fit: the training data set is empty");
  check<ConfigError>(valid.size() > 0, "fit: the validation data set is empty");
  const auto batches = batches_of_epoch(train);
  check_counts(objective_, train, "training", options_.batch_size);
  check_counts(objective_, valid, "validation", options_.eval_batch_size);
  for (const data::Indices& indices : batches) {
    const auto one = micro_batches(indices, options_.accumulate).back();
    if (one.size() > 1) continue;
    to_training_mode(objective_.module());
    try {
      draws_noise(objective_, train.batch(one, {.training = true}), step_options());
    } catch (const NonFiniteError&) {  // the step itself will tell, as on_nan says
    } catch (const ValueError& error) {
      raise<ValueError>(
          "batch_size {}, {} micro-batches: an epoch of {} samples has a batch of one: {}; "
          "drop_last leaves it out",
          options_.batch_size, options_.accumulate, train.size(), error.what());
    }
    return;
  }
}

// Whether plain training measures the KL between passes that it does not make.
bool Trainer::tells_kl() const {
  return options_.passes == 1 && options_.measure_kl > 0 && objective_.tells_kl();
}

// From where the epoch has come to, its beginning or the place that a checkpoint was made at.
// It ends early where a validation within it ends the run.
Metrics Trainer::train_epoch(const data::Dataset& train, const data::Dataset& valid) {
  const auto batches = batches_of_epoch(train);
  EpochPart& part = state_->part;
  check<IoError>(part.batches <= std::ssize(batches), "resume: {} batches of an epoch of {} are done",
                 part.batches, batches.size());
  // Between a step that was saved and the validation that it is due for, too, a run may have been ended.
  if (part.batches < std::ssize(batches) && evaluation_is_due()) evaluate_within(valid);
  if (state_->result.stopped_early) return epoch_so_far();
  int64_t samples = 0, done = 0;
  for (size_t i = 0; i < batches.size(); ++i)
    (static_cast<int64_t>(i) < part.batches ? done : samples) += std::ssize(batches[i]);
  samples += done;
  const size_t first = part.batches;
  double seconds_before = part.means.seconds;
  Progress progress(epoch_label(options_, state_->epoch), samples, options_.unit, options_.progress, done);
  const Device device = objective_.module().device();
  DataWait wait(device == kCpu);
  for (size_t i = first; i < std::min(first + kAhead, batches.size()); ++i)
    prefetch(train, batches[i], state_->step + static_cast<int64_t>(i - first));
  wait.loads();
  StepBatches next;
  if (first < batches.size()) next = load(train, batches[first], state_->step);
  wait.loaded();
  for (size_t i = first; i < batches.size(); ++i) {
    const double began = progress.seconds(), waited = wait.seconds(),
                 summed = gradient_sum_ ? gradient_sum_->seconds() : NAN;
    backend(device).await_uploads();
    const double alpha = alpha_now();
    if (options_.ranks) options_.ranks->is_at(Ranks::Work::step, state_->step);
    const Attempt begun = attempt(next, train, batches[i]);
    // While a device works on this step, the host makes the next batch.
    StepBatches following;
    if (i + kAhead < batches.size()) prefetch(train, batches[i + kAhead], state_->step + kAhead);
    wait.loads();
    if (i + 1 < batches.size()) following = load(train, batches[i + 1], state_->step + 1);
    wait.loaded();
    const StepResult result = settle(begun, next, batches[i]);
    if (options_.ranks) options_.ranks->is_at(Ranks::Work::other, state_->step);  // it may be saved
    wait.finished();
    next = std::move(following);
    const Metrics now{
        .epoch = state_->epoch,
        .step = state_->step,
        .loss = result.loss,
        .ce = result.ce,
        .kl = tells_kl() ? begun.kl : result.kl,
        .accuracy = result.accuracy,
        .lr = optimizer_.lr() * options_.schedule(state_->step),
        .alpha = alpha,
        .samples_per_second = static_cast<double>(batches[i].size()) / (progress.seconds() - began),
        .seconds = progress.seconds() - began,
        .gradient_norm = result.gradient_norm,
        .data_wait = wait.seconds() - waited,
        .rank_wait = gradient_sum_ ? gradient_sum_->seconds() - summed : NAN,
        .skipped = std::isnan(result.loss)};
    done += std::ssize(batches[i]);
    state_->trained += std::ssize(batches[i]);
    ++part.batches, part.samples += std::ssize(batches[i]);
    part.units += result.units;
    const double kl = part.means.kl;
    if (result.units > 0) add_step(part.means, now, result.units / part.units);
    if (tells_kl()) part.means.kl = kl;
    if (!std::isnan(begun.kl)) part.means.kl += (begun.kl - kl) / static_cast<double>(++part.kl_steps);
    part.means.epoch = now.epoch, part.means.step = now.step;
    part.means.seconds = seconds_before + progress.seconds();
    if (on_step) on_step(now);  // first: what is told of a step is there when its checkpoint is
    const bool last = i + 1 == batches.size();  // saved with its validation
    if (!last && evaluation_is_due()) {
      progress.clear();
      const double start = progress.seconds();
      evaluate_within(valid);
      if (state_->result.stopped_early) break;
      seconds_before -= progress.seconds() - start;  // are no part of the training's
    } else if (!last && saves_now()) {
      save_part();
    }
    const int64_t left = (options_.epochs - state_->epoch) * samples - done;
    progress.update(done, progress_text(part.means) + wait.text(progress.seconds()),
                    state_->seconds_left(left));
  }
  if (options_.ranks) options_.ranks->is_at(Ranks::Work::other, state_->step);
  check<NonFiniteError>(part.units > 0 || state_->skipped_in_row == 0,
                        "epoch {}: no step of it was finite; expected at least one that learns",
                        state_->epoch + 1);
  return epoch_so_far();
}

Metrics Trainer::validate(const data::Dataset& valid) const {
  if (options_.ranks) options_.ranks->is_at(Ranks::Work::other, state_->step);
  Metrics validated = evaluate_finite(valid);
  if (options_.metric.name.empty()) return validated;
  const EvalMode mode(objective_.module());
  const auto start = State::Clock::now();
  validated.metric = first_rank() ? options_.metric.measure(validated) : 0;
  if (options_.ranks) options_.ranks->sum({&validated.metric, 1});
  validated.seconds += State::seconds_since(start);
  return validated;
}

// Validates after an epoch, or within it, and tells of it; returns whether its weights are the best so far.
bool Trainer::judge(const Metrics& trained, const data::Dataset& valid, bool ends_epoch) {
  std::optional<Ema::Weights> averages;
  if (ema_) averages.emplace(*ema_);
  const Metrics validated = validate(valid);
  agree("at a validation");
  if (ends_epoch) {
    ++state_->epoch;
    state_->part = {};
    state_->result.train.push_back(trained);
  }
  const bool best = keep(validated);
  report(trained, validated, best);
  if (on_validation) on_validation(validated);
  return best;
}

// Records a validation, and keeps the weights if they are the best so far; returns whether they are.
bool Trainer::keep(const Metrics& validated) {
  FitResult& result = state_->result;
  result.valid.push_back(validated);
  const int64_t last = std::ssize(result.valid) - 1;
  const bool best = last == 0 || better(validated, result.best());
  if (best) {
    result.best_epoch = validated.epoch, result.best_evaluation = last;
    state_->best = host_copy(objective_.module().state_dict());
  }
  if (options_.average > 0) {
    state_->recent.push_back(host_copy(objective_.module().state_dict()));
    if (std::ssize(state_->recent) > options_.average) state_->recent.erase(state_->recent.begin());
  }
  result.stopped_early = out_of_patience();
  return best;
}

bool Trainer::better(const Metrics& a, const Metrics& b) const {
  if (!options_.metric.name.empty() && std::isnan(a.metric) != std::isnan(b.metric))
    return std::isnan(b.metric);
  if (!options_.metric.name.empty() && a.metric != b.metric && !std::isnan(a.metric))
    return (a.metric > b.metric) == options_.metric.higher_is_better;
  return objective_.counts_correct() && a.accuracy != b.accuracy ? a.accuracy > b.accuracy : a.loss < b.loss;
}

bool Trainer::out_of_patience() const {
  const FitResult& result = state_->result;
  const int64_t last = std::ssize(result.valid) - 1;
  return options_.patience > 0 && last - result.best_evaluation >= options_.patience;
}

void Trainer::report(const Metrics& trained, const Metrics& validated, bool best) const {
  if (options_.progress) tell("{}", epoch_line(options_, trained, validated, best));
}

void Trainer::for_each_part(const data::Indices& indices, int64_t step, const Part& use) const {
  for (const std::span<const int64_t> whole : micro_batches(indices, options_.accumulate)) {
    const auto part = options_.ranks ? share_of(whole, *options_.ranks) : whole;
    if (part.empty()) continue;  // there are more ranks than samples
    const int sharing = options_.ranks ? std::min<int64_t>(options_.ranks->size(), std::ssize(whole)) : 1;
    use(part,
        {.training = true,
         .seed = options_.seed,
         .step = static_cast<uint64_t>(step),
         .sample_offset = static_cast<uint64_t>(part.data() - indices.data()),
         .passes = passes_of(step),
         .for_device = objective_.module().device() != kCpu},
        {options_.ranks, sharing});
  }
}

// The micro-batches of a step of these samples, on their way to the device.
StepBatches Trainer::load(const data::Dataset& train, const data::Indices& indices, int64_t step) const {
  std::vector<data::Batch> parts;
  std::vector<StepBatches::Place> places;
  for_each_part(indices, step, [&](auto part, const auto& context, const RankGroup& group) {
    parts.push_back(train.batch(part, context));
    places.push_back({context.sample_offset, group});
  });
  StepBatches batches = upload(objective_, objective_.module().device(), parts);
  batches.places = std::move(places);
  if (options_.ranks) {
    for (const auto whole : micro_batches(indices, options_.accumulate))
      batches.on_all_ranks = batches.on_all_ranks && std::ssize(whole) >= options_.ranks->size();
    double sums[] = {static_cast<double>(batches.units), batches.weight};
    options_.ranks->sum(sums);
    batches.units = static_cast<int64_t>(sums[0]), batches.weight = sums[1];
  }
  return batches;
}

// While a device computes, threads of the data set's own make the batches that follow. On the CPU they would
// only take the step's cores: there, load() makes a batch with all of them.
void Trainer::prefetch(const data::Dataset& train, const data::Indices& indices, int64_t step) const {
  if (objective_.module().device() == kCpu) return;
  for_each_part(indices, step,
                [&](auto part, const auto& context, const RankGroup&) { train.prefetch(part, context); });
}

Update Trainer::begin(const StepBatches& batches) {
  to_training_mode(objective_.module());
  const StepOptions options = step_options();
  if (batches.units == 0) return {.parts = {}, .options = options};  // nothing to learn from
  if (recorded_) {
    if (std::optional<Update> update = recorded_->begin(batches, options)) return *update;
  }
  return begin_update(objective_, optimizer_, ema(), gradient_norm_, options_.clip_norm, batches, options,
                      defers_.value_or(false), gradient_sum_ ? &*gradient_sum_ : nullptr);
}

StepResult Trainer::finish(const Update& update) {
  if (update.units == 0) {
    record_anew();  // recordings know by how much the step's number is ahead of the optimizer's updates
    return ++state_->step, StepResult{};
  }
  const StepResult result = finish_update(objective_, optimizer_, ema(), update);
  if (!defers_ && !update.deferred)
    defers_ = !options_.ranks && std::all_of(update.parts.begin(), update.parts.end(), can_be_deferred);
  ++state_->step;
  return result;
}

StepOptions Trainer::step_options() const {
  StepOptions step{.passes = passes_of(state_->step),
                   .alpha = alpha_now(),
                   .label_smoothing = options_.label_smoothing,
                   .rates = options_.rates,
                   .rate_scale = options_.rate_scale,
                   .precision = options_.precision,
                   .plan = options_.plan,
                   .seed = options_.seed,
                   .step = static_cast<uint64_t>(state_->step),
                   .schedule = options_.schedule};
  if (step.passes != options_.passes && !step.rates.empty()) step.rates.resize(1);
  return step;
}

// Between R-Drop steps: one pass, with the noise of the first.
int Trainer::passes_of(int64_t step) const { return step % options_.rdrop_every == 0 ? options_.passes : 1; }

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

}  // namespace tandem::nn
