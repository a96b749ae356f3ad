// `tandem train TASK`: from options to a run folder and a report.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>

#include "autograd/grad_mode.h"
#include "autograd/load_device.h"
#include "autograd/parallel.h"
#include "autograd/profiler.h"
#include "autograd/tell.h"
#include "nn/io/files.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer.h"
#include "ops/matmul.h"
#include "tools/tandem/checks.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/dry_run.h"
#include "tools/tandem/hints.h"
#include "tools/tandem/live_curves.h"
#include "tools/tandem/rank_start.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/step_log.h"
#include "tools/tandem/train_report.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;

volatile std::sig_atomic_t interrupted = 0;

// Ctrl-C, and the signals of a scheduler (mpirun hands on SIGUSR1) and of a terminal that is closed, end a
// run between two steps, with a checkpoint; a second one ends it at once.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = SA_RESETHAND;
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &old_[i]);
  }
  ~InterruptGuard() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
  struct sigaction old_[std::size(kSignals)];
};

// --precision bf16 on a processor without bf16 instructions: it would take longer than f32.
bool computes_in_f32(const TrainSettings& s, Device device) {
  return s.precision == "bf16" && device == kCpu && !has_bf16_products();
}

using Clock = std::chrono::steady_clock;

// A model of the recipe, ready to be trained into the folder `run`.
class Training {
 public:
  // `start`: of what --max-time limits. `ranks`: or null.
  // `from`: the checkpoint that it goes on from, where it is not the last.
  Training(const Recipe& recipe, const std::string& run, int passes, Device device, Clock::time_point start,
           Ranks* ranks, std::optional<int64_t> from)
      : recipe_(recipe),
        start_(start),
        ranks_(ranks),
        from_(from),
        run_(run),
        passes_(passes),
        init_({.seed = recipe.settings.trainer.seed, .device = device}),
        model_(recipe.make_model()),
        tuned_(recipe.settings.tuning, *model_.module,
               [&](const nn::Module& module) { return recipe.depths(module); }),
        optimizer_(make_optimizer(recipe.settings, *model_.module, tuned_)),
        metric_(recipe.metric(model_)),
        trainer_(*model_.objective, *optimizer_, options()) {}

  int64_t parameters() const { return model_.module->num_parameters(); }
  const std::string& metric() const { return metric_.name; }
  bool passes_are_equal() const {
    if (passes_ == 1) return false;
    const nn::TrainerOptions o = options();
    const data::Dataset& train = recipe_.train();
    data::Indices two = train.shuffled_batches(o.seed, 0, o.batch_size).front();
    two.resize(std::min<size_t>(two.size(), 2));
    return !nn::draws_noise(*model_.objective, train.batch(two, {.training = true, .passes = passes_}),
                            {.passes = passes_, .rates = o.rates, .rate_scale = o.rate_scale});
  }
  bool counts_correct() const { return model_.objective->counts_correct(); }
  bool goes_on() const { return recipe_.settings.resume && nn::Manifest(run_).lists(nn::kLastFile); }
  void check_checkpoint() {
    if (goes_on()) trainer_.restore(recipe_.train(), recipe_.valid(), from_);
  }

  // `curves`: or null.
  Outcome fit(LiveCurves* curves) {
    const bool first = !ranks_ || ranks_->first();
    std::optional<nn::RunLock> lock;
    if (first) {
      lock.emplace(run_);
      fs::remove(fs::path(run_) / kScoresFile);  // of the weights so far
      nn::Commit parts(run_);
      recipe_.save_parts(parts);
      parts.finish();
    }
    double claimed = 1;
    if (ranks_) ranks_->sum({&claimed, 1});  // the folder, which all of them read now
    int64_t steps = 0;
    LossWatch watch(recipe_.settings);
    std::optional<StepLog> log;
    const int64_t log_every = first ? recipe_.settings.log_every : 0;
    if (curves) curves->begin(recipe_.training_name(passes_), run_);
    bool begun = false;
    trainer_.on_step = [&](const nn::Metrics& now) {
      if (log) log->step(now);
      if (curves) curves->step(now);
      steps = now.step;
      if (!now.skipped) watch.see(now.ce);
      const double limit = seconds_of(recipe_.settings.max_time);
      const bool late = limit > 0 && Clock::now() - start_ > std::chrono::duration<double>(limit);
      double stop = interrupted != 0 || late;  // on any rank
      if (ranks_) ranks_->sum({&stop, 1});
      if (stop == 0) return;
      trainer_.save();
      raise<Interrupted>("stopped after step {}, which is saved; `tandem train {} --run {} --resume` goes on",
                         steps, recipe_.task, recipe_.settings.run);
    };
    trainer_.on_validation = [&](const nn::Metrics& validated) {
      if (log) log->validation(validated, metric_.name);
      if (curves) curves->validated(trainer_.so_far());
    };
    trainer_.on_epoch = [&](int64_t epoch) {
      if (log_every > 0 && !log) log.emplace(run_, trainer_.steps_done(), log_every);
      if (first && log_every == 0 && !begun) cut_step_log(run_, trainer_.steps_done());
      if (!std::exchange(begun, true) && curves) curves->went_on_after(trainer_.steps_done());
      tuned_.begin_epoch(epoch);
    };
    nn::FitResult fit;
    try {
      fit = goes_on() ? trainer_.resume(recipe_.train(), recipe_.valid(), from_)
                      : trainer_.fit(recipe_.train(), recipe_.valid());
    } catch (const NonFiniteError& error) {
      raise<NonFiniteError>("training failed after step {}: {}; {}", steps, error.what(),
                            knobs(recipe_.settings));
    } catch (const ValueError& error) {
      raise<ValueError>("training failed after step {}: {}", steps, error.what());
    }
    if (!begun && curves) curves->went_on_after(trainer_.steps_done());
    if (curves) curves->validated(fit);
    watch.end(fit);
    if (!first) return {recipe_.training_name(passes_), run_, passes_, std::move(fit), {}};
    model_.module->eval();
    const NoGradGuard no_grad;
    Outcome outcome{recipe_.training_name(passes_), run_, passes_, std::move(fit),
                    recipe_.scores(model_, run_)};
    save_scores(outcome, recipe_.task, metric_);
    return outcome;
  }

 private:
  nn::TrainerOptions options() const {
    const TrainSettings& s = recipe_.settings;
    nn::TrainerOptions options = trainer_options(s, recipe_.train());
    if (computes_in_f32(s, model_.module->device())) options.precision = DType::f32;
    options.passes = passes_;
    if (passes_ == 1 && s.compare) {
      options.rates.clear();
      options.trainings_after = s.trainer.passes;  // R-Drop's m passes
    }
    options.run_dir = run_;
    options.ranks = ranks_;
    options.unit = recipe_.unit();
    options.name = s.compare ? fmt::format("{:<6}", recipe_.training_name(passes_)) : "";
    options.metadata = recipe_.metadata();
    options.metadata.emplace("task", recipe_.task);
    options.notes.insert(options.metadata.extract("data"));  // a folder: it may be moved
    options.metric = metric_;
    return options;
  }

  const Recipe& recipe_;
  const Clock::time_point start_;
  Ranks* const ranks_;
  const std::optional<int64_t> from_;
  const std::string run_;
  const int passes_;
  nn::InitScope init_;
  TaskModel model_;
  FineTuned tuned_;
  std::unique_ptr<nn::Optimizer> optimizer_;
  nn::ValidationMetric metric_;
  nn::Trainer trainer_;
};

// Beside what a manifest lists: what is made again.
constexpr const char* kPictures[] = {"curves.png", "curves.gp", kReportFile};
bool is_picture(const std::string& name) {
  return std::find(std::begin(kPictures), std::end(kPictures), name) != std::end(kPictures);
}

// A run folder is only written to by its own run. What --overwrite replaces goes first, so that no file of
// another run is left.
void claim_run_folder(const TrainSettings& s, const std::string& settings) {
  for (const auto& entry : fs::directory_iterator(s.run)) {
    const std::string name = entry.path().filename().string();
    const bool begun = name == kStepsFile || EventFile::is_name(name) || name == nn::kSettingsFile ||
                       name == nn::kVocabularyFile || name == nn::kManifestFile || name == nn::kLockFile ||
                       is_picture(name);  // of a run that has no checkpoint yet
    check<ConfigError>(s.resume || s.overwrite || begun,
                       "--run: '{}' is not empty; give another folder, or --resume or --overwrite", s.run);
  }
  nn::Commit commit(s.run, s.resume ? nn::Commit::Others::stay : nn::Commit::Others::go);
  data::write_file(commit.add(nn::kSettingsFile), settings);
  commit.finish();
  if (s.resume) return;
  remove_step_log(s.run);
  for (const char* half : {"plain", "rdrop"}) {
    const fs::path folder = fs::path(s.run) / half;
    if (!fs::is_directory(folder)) continue;
    const nn::RunLock lock(folder.string());
    nn::Commit(folder.string(), nn::Commit::Others::go).finish();
    for (const char* name : {nn::kManifestFile, kScoresFile}) fs::remove(folder / name);
    for (const char* name : kPictures) fs::remove(folder / name);
    remove_step_log(folder.string());
  }
  fs::remove(fs::path(s.run) / kScoresFile);
  for (const char* name : kPictures) fs::remove(fs::path(s.run) / name);
}

// What an option leaves to the length of the run is settled by its first part: with more epochs the rate goes
// on where it was.
void settle_schedule(Command& command, const TrainSettings& s, const data::Dataset& train) {
  const nn::ScheduleOptions settled = trainer_options(s, train).schedule.options();
  if (s.warmup < 0) command.set("--warmup", {std::to_string(settled.warmup)});
  if (s.schedule == "step") command.set("--decay-steps", {std::to_string(settled.step_size)});
}

// A schedule that ends with the run is another one in a longer run.
void tell_longer(const TrainSettings& s, int64_t epochs_before, const data::Dataset& train) {
  const int64_t epochs = s.trainer.epochs;
  const nn::Schedule schedule = trainer_options(s, train).schedule;
  if (epochs <= epochs_before || (schedule.name() != "cosine" && schedule.name() != "linear")) return;
  const int64_t steps_before = (schedule.options().total - 1) / epochs * epochs_before;
  tell(
      "hint: the {} schedule of the learning rate ended with epoch {} and ends with epoch {} now: epoch {} "
      "begins at {:.2g}, and the whole is not what {} epochs at once would be (--schedule constant, step and "
      "inverse_sqrt go on as they were)",
      schedule.name(), epochs_before, epochs, epochs_before + 1, s.lr * schedule(steps_before + 1), epochs);
}

std::string device_line(const std::string& asked, Device found) {
  const std::string line = fmt::format("Device: {}", backend(found).description());
  return asked == "auto" && found == kCpu ? fmt::format("{} ({})", line, why_no_cuda()) : line;
}

// Of --compare's halves the one that --resume-from is about; "" where none has a checkpoint.
std::string last_begun_of(const std::vector<std::pair<std::string, int>>& parts) {
  for (auto part = parts.rbegin(); part != parts.rend(); ++part)
    if (nn::Manifest(part->first).lists(nn::kLastFile)) return part->first;
  return "";
}

// `joined`: the ranks, from when their devices are chosen on.
void train(Recipe& recipe, Command& command, std::unique_ptr<Ranks>& joined) {
  const Clock::time_point start = Clock::now();
  const TrainSettings& s = recipe.settings;
  const std::optional<nn::Launch> launch = nn::find_launch();
  const bool first = !launch || launch->rank == 0;
  if (s.resume_from > 0) recipe.settings.resume = true;
  check<ConfigError>(!fs::exists(s.run) || fs::is_directory(s.run), "--run: '{}' is not a folder", s.run);
  const int64_t epochs_before = s.resume ? resume_settings(command, s) : s.trainer.epochs;
  check_settings(s, recipe.largest_rate());
  const std::string device_name = device_of_rank(s.device, launch);
  choose_device(device_name);  // before an MPI that knows CUDA starts it
  joined = nn::join_ranks();
  Ranks* const ranks = joined.get();
  std::optional<nn::RunLock> lock;
  if (fs::is_directory(s.run) && !s.dry_run && first) lock.emplace(s.run);
  if (s.threads > 0) set_num_threads(s.threads);
  if (launch) share_threads(s, *launch);
  const Device device = load_device(device_name);
  if (ranks) check_same_command(*ranks, command, device);
  set_allow_tf32(s.tf32);
  const std::string about_data = first_then_others(ranks, [&] { return recipe.load(); });
  for (const char* path : {"--data", "--vocab", "--init", "--class-weights"}) command.make_absolute(path);
  settle_schedule(command, s, recipe.train());
  std::vector<std::pair<std::string, int>> parts{{s.run, s.trainer.passes}};  // folders, and their passes
  if (s.compare) parts = {{s.run + "/plain", 1}, {s.run + "/rdrop", s.trainer.passes}};
  const std::string last_begun = last_begun_of(parts);
  check<ConfigError>(s.resume_from == 0 || !last_begun.empty(), "--resume-from: '{}' has no checkpoint yet",
                     s.run);
  const auto from = [&](const std::string& folder) {
    return s.resume_from > 0 && folder == last_begun ? std::optional(s.resume_from) : std::nullopt;
  };
  std::string metric;
  {  // whatever is wrong shows before the folder is touched
    int64_t parameters = 0;
    bool accuracy = false;  // is what it is judged by
    for (const auto& [folder, passes] : parts) {
      Training part(recipe, folder, passes, device, start, ranks, from(folder));
      part.check_checkpoint();
      metric = part.metric(), parameters = part.parameters();
      accuracy = metric.empty() && part.counts_correct();
      if (part.passes_are_equal())
        tell(
            "warning: no noise is active in this model, so its {} passes are equal and the KL term is 0; "
            "--dropout above 0 tells them apart, --passes 1 is quicker",
            passes);
    }
    if (s.dry_run) {
      if (!first) return;
      const nn::InitScope init({.seed = s.trainer.seed, .device = device});
      return print_dry_run(recipe, trainer_options(s, recipe.train()));
    }
    if (s.resume) warn_unchecked(s.run);
    const std::string settings =
        command.to_toml({"config", "resume", "resume-from", "overwrite", "dry-run", "profile", "quiet"});
    double checked = 1;
    if (ranks) ranks->sum({&checked, 1});  // by all of them, which read the folder until now
    if (first) {
      if (!lock) lock.emplace(s.run);
      claim_run_folder(s, settings);
    }
    if (!s.quiet)
      tell("{}\n{} parameters, {} threads{}\n{}", device_line(s.device, device), parameters, num_threads(),
           ranks ? fmt::format(" on each of {} ranks", ranks->size()) : "", about_data);
    if (!s.quiet && computes_in_f32(s, device))
      tell(
          "This processor has no bf16 instructions: products are computed in f32, which takes less time "
          "here");
    if (!s.quiet) tell_longer(s, epochs_before, recipe.train());
    if (!s.quiet) tell_hints(s, recipe.valid().size(), recipe.unit(), accuracy);
  }

  const InterruptGuard guard;
  const std::unique_ptr<Profiler> profiler = s.profile ? std::make_unique<Profiler>(device) : nullptr;
  std::vector<Outcome> outcomes;
  std::optional<LiveCurves> curves;
  if (first) curves.emplace(s.run, metric);
  try {
    for (const auto& [folder, passes] : parts)
      outcomes.push_back(Training(recipe, folder, passes, device, start, ranks, from(folder))
                             .fit(curves ? &*curves : nullptr));
  } catch (...) {
    if (curves) curves->draw_interrupted();
    throw;
  }
  if (!first) return;
  print_report(outcomes, s.trainer.alpha, metric);
  if (!recipe.footnote().empty()) fmt::print("{}\n", recipe.footnote());
  curves->draw();  // last: what fails here costs no result
  fmt::print("Run folder: {}\n", s.run);
  if (profiler) fmt::print("\n{}", profiler->table());
}

// As one of several processes, where a launcher started them: the first shows and writes.
void train_with_ranks(Recipe& recipe, Command& command) {
  std::unique_ptr<Ranks> ranks;
  std::exception_ptr interruption;  // which all of them have
  try {
    const std::optional<nn::Launch> launch = nn::find_launch();
    std::optional<QuietScope> quiet;
    if (launch && launch->rank > 0) quiet.emplace();
    train(recipe, command, ranks);
  } catch (const Interrupted&) {
    interruption = std::current_exception();
  }
  ranks.reset();
  if (interruption) std::rethrow_exception(interruption);
}

}  // namespace

void add_train(Command& root) {
  Command family = root.add("train", "train a bundled model");
  for (const Task& task : tasks()) {
    Command command = family.add(task.name, task.description);
    const std::shared_ptr<Recipe> recipe = make_recipe(task);
    declare(command, *recipe);
    command.examples({fmt::format("tandem train {} --compare", task.name),
                      fmt::format("tandem train {} --passes 2 --alpha 1 --run runs/first", task.name),
                      fmt::format("tandem train {} --run runs/first --resume --epochs 50", task.name)});
    command.run([recipe](Command command) { train_with_ranks(*recipe, command); });
  }
}

}  // namespace tandem::command
