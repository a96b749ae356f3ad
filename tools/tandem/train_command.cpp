#include <fmt/format.h>

#include <csignal>
#include <filesystem>

#include "autograd/grad_mode.h"
#include "autograd/parallel.h"
#include "autograd/profiler.h"
#include "nn/io/files.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/curves.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/text_model.h"

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

struct Outcome {
  std::string name;
  int passes;
  nn::FitResult fit;
  std::vector<Score> scores;  // of the weights that were best in validation
};

bool has_checkpoint(const std::string& run) { return std::filesystem::exists(run + "/" + nn::kLastFile); }

// Trains one model into `run`.
Outcome train_one(const Recipe& recipe, const std::string& task, const std::string& run, int passes,
                  Device device) {
  const TrainSettings& s = recipe.settings;
  const std::string name = recipe.training_name(passes);
  nn::InitScope init({.seed = s.trainer.seed, .device = device});
  const std::unique_ptr<TaskModel> model = recipe.make_model();
  const auto optimizer = make_optimizer(s, *model->module);
  nn::TrainerOptions options = trainer_options(s, recipe.train());
  options.passes = passes;
  if (passes == 1 && s.compare) options.rates.clear();
  options.run_dir = run;
  options.unit = recipe.unit();
  options.name = s.compare ? fmt::format("{:<6}", name) : "";
  options.metadata = recipe.metadata();
  options.metric = recipe.metric(*model);
  nn::Trainer trainer(*model->objective, *optimizer, options);
  nn::make_run_folder(run);
  recipe.save_parts(run);
  int64_t steps = 0;
  trainer.on_step = [&](const nn::Metrics& now) {
    steps = now.step;
    if (interrupted != 0) {
      raise<Interrupted>("stopped after step {}; `tandem train {} --run {} --resume` goes on", steps, task,
                         s.run);
    }
  };
  nn::FitResult fit;
  try {
    fit = has_checkpoint(run) && s.resume ? trainer.resume(recipe.train(), recipe.valid())
                                          : trainer.fit(recipe.train(), recipe.valid());
  } catch (const ValueError& error) {
    raise<ValueError>("training failed after step {}: {}", steps, error.what());
  }
  model->module->eval();
  const NoGradGuard no_grad;
  return {name, passes, std::move(fit), recipe.scores(*model, run)};
}

// A run folder is only written to by its own run. What --overwrite replaces goes first, so that no file of
// another run is left.
void claim_run_folder(const TrainSettings& s) {
  namespace fs = std::filesystem;
  check<ConfigError>(!fs::exists(s.run) || fs::is_directory(s.run), "--run: '{}' is not a folder", s.run);
  nn::make_run_folder(s.run);
  if (s.resume) return;
  for (const auto& entry : fs::directory_iterator(s.run)) {
    const std::string name = entry.path().filename().string();
    check<ConfigError>(s.overwrite || name == kSettingsFile || name == kVocabularyFile,
                       "--run: '{}' is not empty; give another folder, or --resume or --overwrite", s.run);
  }
  for (const char* part : {"plain", "rdrop", "."}) {
    for (const char* name :
         {nn::kMetricsFile, nn::kBestFile, nn::kLastFile, kVocabularyFile, "curves.png", "curves.gp"}) {
      fs::remove(fs::path(s.run) / part / name);
    }
  }
}

void draw(const std::vector<data::CurveRun>& runs, const std::string& run, const std::string& metric) {
  if (!data::draw_curves(runs, run + "/curves.png", "Tandem: " + run, metric)) {
    fmt::print(stderr, "No curves were drawn: gnuplot is not installed (Debian: gnuplot-nox).\n");
  }
}

void report(const std::vector<Outcome>& outcomes, double alpha, const std::string& metric) {
  std::vector<std::vector<std::string>> rows{{"training", "passes", "alpha"}};
  for (const Score& score : outcomes.front().scores) rows[0].push_back(score.name);
  const bool accuracy = metric.empty() && outcomes.front().fit.best().accuracy >= 0;
  rows[0].push_back("valid " + (metric.empty() ? accuracy ? "accuracy" : "loss" : metric));
  rows[0].insert(rows[0].end(), {"epoch", "time"});
  for (const auto& [name, passes, fit, scores] : outcomes) {
    double seconds = 0;
    for (size_t i = 0; i < fit.valid.size(); ++i) seconds += fit.train[i].seconds + fit.valid[i].seconds;
    std::vector<std::string>& row = rows.emplace_back();
    row = {name, std::to_string(passes), passes == 1 ? "-" : fmt::format("{}", alpha)};
    for (const Score& score : scores) row.push_back(score.value);
    const nn::Metrics& best = fit.best();
    row.push_back(accuracy         ? fmt::format("{:.2f}%", 100 * best.accuracy)
                  : metric.empty() ? fmt::format("{:.4f}", best.loss)
                                   : fmt::format("{:.4g}", best.metric));
    row.push_back(fit.averaged ? "mean" : std::to_string(fit.best_epoch + 1));
    row.push_back(fmt::format("{:.1f}s", seconds));
  }
  fmt::print("\n");
  print_table(rows);
}

void train(Recipe& recipe, const CLI::App& command, const std::string& task) {
  const TrainSettings& s = recipe.settings;
  check_settings(s, recipe.largest_rate());
  if (s.threads > 0) set_num_threads(s.threads);
  const Device device = load_device(s.device);
  recipe.load();
  std::string metric;
  {
    nn::InitScope init({.device = device});
    const auto model = recipe.make_model();  // whatever is wrong shows before the folder is touched
    const auto optimizer = make_optimizer(s, *model->module);
    nn::TrainerOptions options = trainer_options(s, recipe.train());
    options.run_dir = s.run;
    nn::Trainer trainer(*model->objective, *optimizer, options);
    if (s.resume && has_checkpoint(s.run)) trainer.restore();
    metric = recipe.metric(*model).name;
    claim_run_folder(s);
    data::write_file(s.run + "/" + kSettingsFile,
                     to_config(command, {"config", "resume", "overwrite", "profile", "quiet"}));
    if (!s.quiet) {
      fmt::print(stderr, "{}\n{} parameters, {} threads\n{}\n", device_line(s.device, device),
                 model->module->num_parameters(), num_threads(), recipe.summary());
    }
  }

  const InterruptGuard guard;
  std::unique_ptr<Profiler> profiler = s.profile ? std::make_unique<Profiler>() : nullptr;
  std::vector<Outcome> outcomes;
  std::vector<data::CurveRun> curves;
  auto train_into = [&](const std::string& run, int passes) {
    outcomes.push_back(train_one(recipe, task, run, passes, device));
    curves.push_back({outcomes.back().name, run + "/" + nn::kMetricsFile});
  };
  if (s.compare) train_into(s.run + "/plain", 1);
  train_into(s.compare ? s.run + "/rdrop" : s.run, s.trainer.passes);
  draw(curves, s.run, metric);
  report(outcomes, s.trainer.alpha, metric);
  if (!recipe.footnote().empty()) fmt::print("{}\n", recipe.footnote());
  fmt::print("Run folder: {}\n", s.run);
  if (profiler) fmt::print("\n{}", profiler->table());
}

void add_task(CLI::App& train_app, const Task& task) {
  CLI::App* command = train_app.add_subcommand(task.name, task.description);
  const std::shared_ptr<Recipe> recipe = task.make();
  declare(*command, *recipe);
  command->callback([=, name = task.name, make = task.make] {
    if (!recipe->settings.resume) return train(*recipe, *command, name);
    CLI::App merged;
    const std::unique_ptr<Recipe> resumed = make();
    declare(merged, *resumed);
    parse_arguments(merged, resumed_arguments(recipe->settings, *command), recipe->settings.run);
    train(*resumed, merged, name);
  });
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* train = app.add_subcommand("train", "train a bundled model");
  train->require_subcommand(1);
  for (const Task& task : tasks()) add_task(*train, task);
}

}  // namespace tandem::command
