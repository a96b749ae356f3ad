#include "tools/tandem/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "nn/train/evaluate.h"

namespace tandem::command {
namespace {

std::vector<Task>& registered() {
  static std::vector<Task> tasks;
  return tasks;
}

}  // namespace

const std::vector<Task>& tasks() { return registered(); }

RegisterTask::RegisterTask(Task task) { registered().push_back(std::move(task)); }

std::unique_ptr<Recipe> make_recipe(const Task& task) {
  std::unique_ptr<Recipe> recipe = task.make();
  recipe->task = task.name;
  recipe->settings.run = "runs/" + task.name;
  return recipe;
}

void declare(Command& command, Recipe& recipe) {
  recipe.declare_data(command);
  declare_passes(command, recipe.settings);
  recipe.declare_model(command);
  declare_training(command, recipe.settings, recipe.batch_unit());
  declare_run(command, recipe.settings);
  recipe.find_options(command);
}

Resampled resample_batches(nn::Objective& objective, const data::Dataset& dataset, int64_t batch_size,
                           const std::string& unit, std::function<double(double ce, double accuracy)> score) {
  struct Sums {
    double ce, correct, units;
  };
  std::vector<Sums> batches;
  const nn::EvalMode mode(objective.module());
  const Device device = objective.module().device();
  for (const data::Indices& indices : dataset.ordered_batches(batch_size)) {
    const data::Batch host = dataset.batch(indices, {.for_device = device != kCpu}), batch = host.to(device);
    const LossParts parts = objective.loss_of(objective.outputs(batch), batch, {.alpha = 0, .divisor = 1}, 1);
    batches.push_back(
        {parts.ce, static_cast<double>(parts.correct), static_cast<double>(objective.valid_units(host))});
  }
  const auto of_drawn = [batches, score = std::move(score)](const data::Indices& drawn) {
    Sums sum{};
    for (int64_t i : drawn)
      sum.ce += batches[i].ce, sum.correct += batches[i].correct, sum.units += batches[i].units;
    return score(sum.ce / sum.units, sum.correct / sum.units);
  };
  return {std::ssize(batches), unit, of_drawn};
}

std::string find_data(const std::string& data, const std::string& run) {
  namespace fs = std::filesystem;
  if (data.empty() || fs::exists(data) || fs::exists(fs::path("data") / data)) return data;
  for (fs::path at = fs::absolute(run).lexically_normal();; at = at.parent_path()) {
    for (const fs::path& found : {at / data, at / "data" / data})
      if (fs::exists(found)) return found.string();
    if (at == at.parent_path()) return data;
  }
}

const data::Dataset& Recipe::made(const data::Dataset* dataset, const char* name) const {
  check<ConfigError>(dataset != nullptr, "the recipe of {}: its load() made no {}", task, name);
  return *dataset;
}

TaskModel Recipe::open(const Run& run, const std::string& data) {
  namespace fs = std::filesystem;
  check<ConfigError>(fs::is_directory(run.folder), "eval: expected a run folder for the task {}, got '{}'",
                     task, run.folder);
  // One half of a comparison has its settings in the folder above.
  const std::string above = (fs::path(run.folder) / "..").string(),
                    folder = nn::Manifest(run.folder).lists(nn::kSettingsFile) ? run.folder : above;
  Command options;
  declare(options, *this);
  check<ConfigError>(data.empty() || options.has("--data"), "eval: the task {} takes no --data", task);
  if (!data.empty()) options.set("--data", {data});
  nn::read_run(folder, [&](const nn::Manifest& manifest) {
    check<ConfigError>(manifest.lists(nn::kSettingsFile), "eval: '{}' holds no run: it has no {}", run.folder,
                       nn::kSettingsFile);
    // The run has a vocabulary of its own, and weights, whatever it started from; no class weighs more in a
    // test.
    options.read(
        manifest.checked(nn::kSettingsFile),
        {{"vocab", run.folder + "/" + nn::kVocabularyFile}, {"init", run.folder}, {"class-weights", ""}});
  });
  if (data.empty() && options.has("--data"))
    options.set("--data", {find_data(options.value("--data"), run.folder)});
  settings.run = run.folder, settings.resume = true;  // the run's own vocabulary
  settings.quiet = true;
  opened_ = &run;
  load();
  opened_ = nullptr;
  TaskModel model = make_model();
  model.module->load_state_dict(run.tensors);
  model.module->eval();
  return model;
}

std::vector<Score> Recipe::evaluate(const Run& run, const std::string& data) {
  TaskModel model = open(run, data);
  const NoGradGuard no_grad;
  return scores(model, "");
}

}  // namespace tandem::command
